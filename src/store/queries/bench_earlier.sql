SELECT epoch_us(started_at)
FROM bench_runs
WHERE suite = $1 AND ($2 IS NULL OR branch = $2)
    AND ($3 IS NULL OR list_contains(string_split($3, ','), environment))
    AND ($4 IS NULL OR epoch_us(started_at) < $4)
ORDER BY started_at DESC, seq DESC
LIMIT 2 OFFSET $5
