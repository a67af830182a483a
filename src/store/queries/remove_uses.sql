DELETE FROM uses WHERE name = ? AND digest = ?
