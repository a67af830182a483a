SELECT inputs FROM models WHERE name = ? AND digest = ?
