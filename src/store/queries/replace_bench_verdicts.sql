DELETE FROM bench_verdicts WHERE base = ? AND head = ?
