DELETE FROM bench_environments WHERE sha256 NOT IN (SELECT environment FROM bench_runs)
