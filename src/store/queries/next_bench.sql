SELECT coalesce(max(seq), 0) + 1 FROM bench_runs
