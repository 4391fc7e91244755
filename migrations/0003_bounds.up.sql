-- bounds is where the log begins and ends in the caller's snapshot: floor (all
-- at and below it is gone), tip (the last position), and the present epoch.
CREATE FUNCTION tailroom.bounds(OUT tip bigint, OUT floor bigint, OUT epoch bigint)
LANGUAGE sql STABLE AS $$
    SELECT greatest((SELECT max(position) FROM tailroom.events), l.floor), l.floor,
        coalesce((SELECT max(e.epoch) FROM tailroom.epochs e), 1)
    FROM tailroom.log l
$$;
