DROP FUNCTION tailroom.bounds();
