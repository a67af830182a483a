-- Keeps the newest of one plan.
DELETE FROM recoveries
WHERE plan = ?
  AND moved_at < (SELECT min(moved_at) FROM (
      SELECT moved_at FROM recoveries WHERE plan = ? ORDER BY moved_at DESC LIMIT ?))
