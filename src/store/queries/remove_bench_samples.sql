DELETE FROM bench_samples WHERE run = ?
