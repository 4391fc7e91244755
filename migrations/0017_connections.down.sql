-- Who is connected is seen at each instance alone again.
SET LOCAL ROLE tailroom_owner;

DROP FUNCTION tailroom.connections_show, tailroom.connections_seen;
DROP VIEW tailroom.present_connections;
DROP TABLE tailroom.connections, tailroom.connection_showings;
