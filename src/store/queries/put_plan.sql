INSERT OR IGNORE INTO plans (id, plan, made_at) VALUES (?, ?, make_timestamp(?))
