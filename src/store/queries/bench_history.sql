WITH newest AS (
    SELECT seq, id, started_at, weft_commit, branch, suite_sha256, environment
    FROM bench_runs
    WHERE suite = $1 AND ($2 IS NULL OR branch = $2)
        AND ($3 IS NULL OR list_contains(string_split($3, ','), environment))
        AND ($12 IS NULL OR epoch_us(started_at) < $12)
    ORDER BY started_at DESC, seq DESC
    LIMIT $4
)
SELECT cell.model, cell.browser, cell.backend, cell.scenario, cell.precision, cell.asked, run.id,
    epoch_us(run.started_at), run.weft_commit, run.branch, run.suite_sha256, run.environment, cell.model_sha256,
    cell.samples, cell.median_us, cell.low_us, cell.high_us
FROM bench_cells AS cell JOIN newest AS run ON cell.run = run.seq
WHERE cell.outcome = 'ok' AND cell.samples IS NOT NULL AND cell.run >= (SELECT min(seq) FROM newest)
    AND ($5 IS NULL OR cell.model = $5) AND ($6 IS NULL OR cell.browser = $6)
    AND ($7 IS NULL OR cell.backend = $7) AND ($8 IS NULL OR cell.scenario = $8)
    AND ($9 IS NULL OR cell.precision = $9) AND ($10 IS NULL OR cell.asked = $10)
ORDER BY cell.model, cell.browser, cell.backend, cell.asked, run.started_at, run.seq
LIMIT $11
