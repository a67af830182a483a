SELECT
    id, name, digest, scopes, weight, rate_per_second, quota_per_day, in_flight,
    epoch_us(created_at), epoch_us(expires_at), epoch_us(revoked_at)
FROM keys
ORDER BY created_at, id
