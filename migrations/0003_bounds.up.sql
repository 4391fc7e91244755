-- bounds is where the log begins and ends in the reader's snapshot: floor (all at
-- and below it is gone), tip (the last position), and the present epoch. A view,
-- because a function would be planned anew at every call.
CREATE VIEW tailroom.bounds AS
    SELECT greatest((SELECT max(position) FROM tailroom.events), l.floor) AS tip, l.floor,
        coalesce((SELECT max(e.epoch) FROM tailroom.epochs e), 1) AS epoch
    FROM tailroom.log l;
