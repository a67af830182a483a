INSERT INTO recoveries (plan, stage, moved_at, lane, fallback) VALUES (?, ?, make_timestamp(?), ?, ?)
