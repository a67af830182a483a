INSERT OR IGNORE INTO plans (id, plan, made_at, error) VALUES (?, ?, make_timestamp(?), ?)
