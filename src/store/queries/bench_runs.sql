FROM bench_runs
WHERE seq < $1 AND ($2 IS NULL OR suite = $2) AND ($3 IS NULL OR starts_with(weft_commit, $3))
    AND ($4 IS NULL OR branch = $4) AND (NOT $5 OR complete)
    AND ($6 IS NULL OR id = $6)
ORDER BY seq DESC
LIMIT $7
