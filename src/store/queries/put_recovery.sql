INSERT INTO recoveries (plan, stage, moved_at, lane, fallback, took_us)
VALUES (?, ?, make_timestamp(?), ?, ?, ?)
