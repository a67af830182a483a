SELECT DISTINCT run.suite, cell.model, cell.browser, cell.backend, cell.scenario, cell.precision, cell.asked
FROM bench_cells AS cell JOIN bench_runs AS run ON cell.run = run.seq
WHERE cell.outcome = 'ok' AND cell.samples IS NOT NULL
