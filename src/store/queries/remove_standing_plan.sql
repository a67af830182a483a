DELETE FROM standing_plans WHERE model = ?
