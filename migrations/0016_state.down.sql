-- States are made of the log, but for those at the floor: what retention has dropped
-- is gone with them.
SET LOCAL ROLE tailroom_owner;

DROP FUNCTION tailroom.position_at, tailroom.state_page, tailroom.state_remove, tailroom.state_switch, tailroom.state_seed,
    tailroom.state_begin, tailroom.state_fold;
DROP VIEW tailroom.state_head;
DROP TABLE tailroom.state_floor_progress, tailroom.state_floor, tailroom.state_keyframes, tailroom.states, tailroom.state_generations;
