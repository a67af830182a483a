DELETE FROM plans WHERE id = ?
