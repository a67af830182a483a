SELECT inputs FROM models WHERE name = ?
