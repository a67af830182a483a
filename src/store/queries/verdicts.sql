SELECT key, status, error, tolerance, inputs, detail, epoch_us(proven_at)
FROM verdicts
WHERE digest = ?
ORDER BY proven_at DESC, key
