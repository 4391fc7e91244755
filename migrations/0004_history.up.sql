-- history finds the positions of a query over the log, in order, at most
-- max_rows of them. Empty arrays, empty texts and null times do not filter; an
-- empty tenant is every tenant. The query is put together from the filters that
-- are there, so that each combination gets the plan that its indexes allow;
-- values only ever come in as parameters.
CREATE FUNCTION tailroom.history(
    tenant text, namespaces text[], rooms text[], types text[], stream text, correlation_id text,
    recorded_from timestamptz, recorded_to timestamptz, after bigint, before bigint,
    descending boolean, max_rows integer) RETURNS bigint[]
LANGUAGE plpgsql STABLE
SET max_parallel_workers_per_gather = 0 SET jit = off
AS $$
DECLARE
    wanted text := 'e.position > $9 AND e.position < $10';
    sorted text := CASE WHEN descending THEN ' ORDER BY position DESC LIMIT $11' ELSE ' ORDER BY position LIMIT $11' END;
    source text;
    found  bigint[];
BEGIN
    IF tenant <> '' THEN
        wanted := wanted || ' AND e.tenant = $1';
    END IF;
    IF cardinality(types) > 0 THEN
        wanted := wanted || ' AND e.type = ANY($4)';
    END IF;
    IF stream <> '' THEN
        wanted := wanted || ' AND e.stream = $5';
    END IF;
    IF correlation_id <> '' THEN
        -- What correlates only with itself is found by its id.
        wanted := wanted || ' AND (e.correlation_id = $6 AND e.correlation_id <> e.id::text';
        IF correlation_id ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN
            wanted := wanted || ' OR e.id = $6::uuid AND e.correlation_id = $6';
        END IF;
        wanted := wanted || ')';
    END IF;
    IF recorded_from IS NOT NULL THEN
        wanted := wanted || ' AND e.recorded_at >= $7';
    END IF;
    IF recorded_to IS NOT NULL THEN
        wanted := wanted || ' AND e.recorded_at < $8';
    END IF;

    IF stream <> '' OR correlation_id <> '' OR tenant = '' THEN
        source := 'SELECT e.position FROM tailroom.events e WHERE e.namespace = ANY($2)'
            || ' AND (cardinality($3) = 0 OR e.rooms && $3) AND ' || wanted;
    ELSIF cardinality(rooms) = 0 THEN
        source := 'SELECT hit.position FROM unnest($2) AS n (namespace) CROSS JOIN LATERAL ('
            || 'SELECT e.position FROM tailroom.events e WHERE e.namespace = n.namespace AND ' || wanted || sorted || ') hit';
    ELSE
        source := 'SELECT DISTINCT hit.position FROM unnest($2) AS n (namespace) CROSS JOIN unnest($3) AS r (room)'
            || ' CROSS JOIN LATERAL ((SELECT e.position FROM tailroom.events e WHERE e.namespace = n.namespace'
            || ' AND e.first_room = r.room AND ' || wanted || sorted
            || ') UNION ALL (SELECT e.position FROM tailroom.events e WHERE e.namespace = n.namespace'
            || ' AND cardinality(e.rooms) > 1 AND e.rooms @> ARRAY[r.room] AND ' || wanted || sorted || ')) hit';
    END IF;
    EXECUTE 'SELECT array_agg(p.position) FROM (' || source || sorted || ') p'
        INTO found
        USING tenant, namespaces, rooms, types, stream, correlation_id, recorded_from, recorded_to, after, before, max_rows;
    RETURN coalesce(found, '{}');
END $$;
