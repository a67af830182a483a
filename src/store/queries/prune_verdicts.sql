-- Keeps the newest verdicts about one model.
DELETE FROM verdicts
WHERE digest = ?
  AND key NOT IN (SELECT key FROM verdicts WHERE digest = ? ORDER BY proven_at DESC LIMIT ?)
