DROP FUNCTION tailroom.partitions_ahead(integer);
DROP TABLE tailroom.partitions, tailroom.log, tailroom.epochs, tailroom.recent_ids, tailroom.streams, tailroom.events;
DROP SEQUENCE tailroom.positions;
DROP FUNCTION tailroom.refuse_change();
