DROP FUNCTION tailroom.append_batch;
DROP FUNCTION tailroom.epoch_now();
