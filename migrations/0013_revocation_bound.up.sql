-- A company has so many revocations at most: every instance holds all of them, and
-- reads them before it serves.
SET LOCAL ROLE tailroom_owner;

CREATE INDEX revocations_tenant ON tailroom.revocations (tenant) WHERE tenant IS NOT NULL;

-- revoke_tokens revokes the tokens of a subject, or one token, of a company (null:
-- of all) that were issued before a time (null: a subject's until now, one token
-- whenever it was issued). A revocation that this one includes is forgotten, so
-- that there is about one row for each subject. A company has 10,000 at most, as
-- eventlog.MaxRevocations says too; those of all companies are not bounded.
CREATE OR REPLACE FUNCTION tailroom.revoke_tokens(tenant text, subject text, token_id text, before timestamptz, reason text, actor text,
    OUT "position" bigint, OUT epoch bigint, OUT upto timestamptz, OUT recorded_at timestamptz)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
#variable_conflict use_column
DECLARE
    crowded boolean;
BEGIN
    -- Counting takes a millisecond where there are many, so it is not done under the
    -- lock that everybody waits for, unless the bound is near.
    crowded := (SELECT count(*) FROM tailroom.revocations r WHERE r.tenant = revoke_tokens.tenant) >= 9000;
    PERFORM pg_advisory_xact_lock(1952541036, 1);
    upto := coalesce(revoke_tokens.before, CASE WHEN revoke_tokens.subject IS NULL THEN 'infinity' ELSE clock_timestamp() END);
    DELETE FROM tailroom.revocations r
    WHERE (r.subject = revoke_tokens.subject OR r.token_id = revoke_tokens.token_id)
        AND r.tenant IS NOT DISTINCT FROM revoke_tokens.tenant AND r.before <= upto;
    IF crowded AND (SELECT count(*) FROM tailroom.revocations r WHERE r.tenant = revoke_tokens.tenant) >= 10000 THEN
        RAISE EXCEPTION 'too_large: a company has at most 10000 revocations' USING ERRCODE = 'TR018';
    END IF;
    "position" := tailroom.tell(revoke_tokens.tenant, 'tokensRevoked', reason, actor, jsonb_build_object(
        'subject', revoke_tokens.subject, 'tokenId', revoke_tokens.token_id,
        'before', CASE WHEN isfinite(upto) THEN to_char(upto AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') END));
    SELECT e.epoch, e.recorded_at INTO epoch, recorded_at FROM tailroom.events e WHERE e.position = revoke_tokens."position";
    INSERT INTO tailroom.revocations (position, tenant, subject, token_id, before, created_at)
    VALUES (revoke_tokens."position", revoke_tokens.tenant, revoke_tokens.subject, revoke_tokens.token_id, upto, recorded_at);
END $$;
