DELETE FROM recoveries WHERE plan = ?
