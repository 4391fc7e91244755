SET LOCAL ROLE tailroom_owner;

DROP FUNCTION tailroom.epoch_open(bigint, bigint, text, bigint);
DROP FUNCTION tailroom.epoch_now(bigint, bigint);
DROP FUNCTION tailroom.epoch_begin(bigint, bigint, text);
DROP FUNCTION tailroom.epoch_identity();

CREATE OR REPLACE FUNCTION tailroom.refuse_change() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'tailroom.events is append-only: % is refused', TG_OP
        USING ERRCODE = 'TR002';
END $$;
COMMENT ON TABLE tailroom.epochs IS NULL;
