SELECT plan, stage, epoch_us(moved_at), lane, fallback
FROM recoveries
WHERE plan = ?
ORDER BY moved_at DESC, stage
