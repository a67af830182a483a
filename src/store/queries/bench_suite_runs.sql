SELECT suite, branch, environment, count(*), epoch_us(max(started_at))
FROM bench_runs
GROUP BY suite, branch, environment
