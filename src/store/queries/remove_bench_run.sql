DELETE FROM bench_runs WHERE seq = ?
