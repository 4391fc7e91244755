DROP VIEW tailroom.bounds;
