DELETE FROM bench_suites WHERE sha256 NOT IN (SELECT suite_sha256 FROM bench_runs)
