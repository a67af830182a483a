INSERT OR IGNORE INTO plans (id, plan, made_at, error, own) VALUES (?, ?, make_timestamp(?), ?, ?)
