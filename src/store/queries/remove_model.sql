DELETE FROM models WHERE name = ? AND digest = ?
