INSERT OR REPLACE INTO keys
    (id, name, digest, scopes, weight, rate_per_second, quota_per_day, in_flight, created_at, expires_at, revoked_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, make_timestamp(?), make_timestamp(?), make_timestamp(?))
