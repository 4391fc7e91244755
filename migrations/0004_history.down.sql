DROP FUNCTION tailroom.history;
