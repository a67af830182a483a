SELECT run, suite, weft_commit, branch, started_at, model, browser, backend, scenario, asked, outcome,
    list_extract(['measured', 'warm_up', 'alone'], samples.series + 1) AS series, place, us
FROM samples JOIN cells USING (cell)
