SELECT seq, id FROM bench_runs
WHERE seq NOT IN (SELECT seq FROM bench_runs ORDER BY seq DESC LIMIT ?) OR kept_at < make_timestamp(?)
