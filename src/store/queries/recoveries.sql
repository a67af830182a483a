SELECT plan, stage, epoch_us(moved_at), lane, fallback, took_us
FROM recoveries
WHERE plan = ?
ORDER BY moved_at DESC, stage
