INSERT OR REPLACE INTO uses (name, digest, uses, last_used)
SELECT name, digest, ?, ? FROM models WHERE name = ? AND digest = ?
