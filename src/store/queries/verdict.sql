SELECT key, status, error, tolerance, inputs, detail, epoch_us(proven_at)
FROM verdicts
WHERE key = ?
