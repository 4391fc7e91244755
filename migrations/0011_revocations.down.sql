-- Tokens that were revoked and have not expired are good again.
SET LOCAL ROLE tailroom_owner;

DROP FUNCTION tailroom.disconnect_sessions, tailroom.forget_revocations, tailroom.revoke_tokens;
DROP TABLE tailroom.revocations;
