INSERT INTO schema_migrations (version, name, digest, applied_at) VALUES (?, ?, ?, make_timestamp(epoch_us(now())))
