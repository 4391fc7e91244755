-- Consumers begin at now again, and instances do not know of each other.
SET LOCAL ROLE tailroom_owner;

DROP FUNCTION tailroom.consumer_erase, tailroom.consumer_acks_forget, tailroom.consumers_lagging, tailroom.consumer_lag,
    tailroom.consumer_flush, tailroom.consumer_claim, tailroom.instance_leave, tailroom.instance_beat, tailroom.instance_join;
DROP VIEW tailroom.consumer_states;
DROP TABLE tailroom.consumer_acks, tailroom.consumers, tailroom.instances;
