UPDATE models SET pinned = ? WHERE name = ? AND digest = ?
