SELECT run.seq, run.document, environment.environment
FROM bench_runs AS run JOIN bench_environments AS environment ON environment.sha256 = run.environment
WHERE run.id = ?
