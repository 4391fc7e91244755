-- Revoked tokens, and sessions that an operator ends. The log tells every instance,
-- and for ever who did it and why.
SET LOCAL ROLE tailroom_owner;

-- The tokens that are dead though they have not expired. An instance reads what
-- comes after the last position that it knows: rows are only ever added under the
-- append lock, so nothing appears below one that was seen.
CREATE TABLE tailroom.revocations (
    position   bigint           PRIMARY KEY,
    tenant     text COLLATE "C",
    subject    text COLLATE "C",
    token_id   text COLLATE "C",
    before     timestamptz      NOT NULL,
    created_at timestamptz      NOT NULL,
    CHECK ((subject IS NULL) <> (token_id IS NULL))
);
COMMENT ON COLUMN tailroom.revocations.position IS 'Of the event that tells of it.';
COMMENT ON COLUMN tailroom.revocations.tenant IS 'Whose tokens; null: every company''s, and those for all companies.';
COMMENT ON COLUMN tailroom.revocations.before IS 'Tokens that were issued before it are dead; infinity: whenever they were.';
CREATE INDEX revocations_subject  ON tailroom.revocations (subject) WHERE subject IS NOT NULL;
CREATE INDEX revocations_token_id ON tailroom.revocations (token_id) WHERE token_id IS NOT NULL;

-- revoke_tokens revokes the tokens of a subject, or one token, of a company (null:
-- of all) that were issued before a time (null: a subject's until now, one token
-- whenever it was issued). A revocation that this one includes is forgotten, so
-- that there is about one row for each subject.
CREATE FUNCTION tailroom.revoke_tokens(tenant text, subject text, token_id text, before timestamptz, reason text, actor text,
    OUT "position" bigint, OUT epoch bigint, OUT upto timestamptz, OUT recorded_at timestamptz)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
#variable_conflict use_column
BEGIN
    PERFORM pg_advisory_xact_lock(1952541036, 1);
    upto := coalesce(revoke_tokens.before, CASE WHEN revoke_tokens.subject IS NULL THEN 'infinity' ELSE clock_timestamp() END);
    "position" := tailroom.tell(revoke_tokens.tenant, 'tokensRevoked', reason, actor, jsonb_build_object(
        'subject', revoke_tokens.subject, 'tokenId', revoke_tokens.token_id,
        'before', CASE WHEN isfinite(upto) THEN to_char(upto AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') END));
    SELECT e.epoch, e.recorded_at INTO epoch, recorded_at FROM tailroom.events e WHERE e.position = revoke_tokens."position";
    DELETE FROM tailroom.revocations r
    WHERE (r.subject = revoke_tokens.subject OR r.token_id = revoke_tokens.token_id)
        AND r.tenant IS NOT DISTINCT FROM revoke_tokens.tenant AND r.before <= upto;
    INSERT INTO tailroom.revocations (position, tenant, subject, token_id, before, created_at)
    VALUES (revoke_tokens."position", revoke_tokens.tenant, revoke_tokens.subject, revoke_tokens.token_id, upto, recorded_at);
END $$;

-- forget_revocations forgets those that no living token can meet any more: `after`
-- is how long a token lives at most. It returns how many there were.
CREATE FUNCTION tailroom.forget_revocations(after interval) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    forgotten bigint;
BEGIN
    DELETE FROM tailroom.revocations r
    WHERE greatest(CASE WHEN isfinite(r.before) THEN r.before END, r.created_at) < clock_timestamp() - after;
    GET DIAGNOSTICS forgotten = ROW_COUNT;
    RETURN forgotten;
END $$;

-- disconnect_sessions asks every instance to end the sessions of a subject, or one
-- session, of a company (null: of all) that began before.
CREATE FUNCTION tailroom.disconnect_sessions(tenant text, subject text, session text, reason text, actor text,
    OUT "position" bigint, OUT epoch bigint, OUT recorded_at timestamptz)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
#variable_conflict use_column
BEGIN
    "position" := tailroom.tell(disconnect_sessions.tenant, 'sessionsDisconnected', reason, actor,
        jsonb_build_object('subject', subject, 'session', session));
    SELECT e.epoch, e.recorded_at INTO epoch, recorded_at FROM tailroom.events e WHERE e.position = disconnect_sessions."position";
END $$;

GRANT SELECT ON tailroom.revocations TO tailroom_writer;
REVOKE ALL ON FUNCTION tailroom.revoke_tokens, tailroom.forget_revocations, tailroom.disconnect_sessions FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tailroom.revoke_tokens, tailroom.forget_revocations, tailroom.disconnect_sessions TO tailroom_writer;
