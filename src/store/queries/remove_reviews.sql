DELETE FROM reviews WHERE model = ?
