SET LOCAL ROLE tailroom_owner;

DROP FUNCTION tailroom.outbox_discard, tailroom.outbox_retry, tailroom.outbox_horizon, tailroom.outbox_settle, tailroom.append,
    tailroom.publish, tailroom.drafted, tailroom.new_id, tailroom.refuse_data, tailroom.expand, tailroom.mirror_catalogue;
DROP TABLE tailroom.outbox_rejected, tailroom.outbox, tailroom.event_types;
ALTER TABLE tailroom.log DROP COLUMN max_event_bytes;
