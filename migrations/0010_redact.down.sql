-- What was erased stays erased, and the events that tell of it stay in the log.
SET LOCAL ROLE tailroom_owner;

DROP FUNCTION tailroom.redact, tailroom.tell;
DROP TABLE tailroom.redactions;
