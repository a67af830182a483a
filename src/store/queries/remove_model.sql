DELETE FROM models WHERE name = ?
