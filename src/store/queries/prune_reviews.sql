-- Keeps the newest of one model.
DELETE FROM reviews
WHERE model = ?
  AND reviewed_at < (SELECT min(reviewed_at) FROM (
      SELECT reviewed_at FROM reviews WHERE model = ? ORDER BY reviewed_at DESC LIMIT ?))
