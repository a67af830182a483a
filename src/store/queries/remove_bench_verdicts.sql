DELETE FROM bench_verdicts WHERE base = $1 OR head = $1
