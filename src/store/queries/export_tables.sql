-- Samples stay in their order: cells are looked up for them, and never the other way round.
SET disabled_optimizers = 'join_order,build_side_probe_side';
CREATE TABLE cells (
    cell UINTEGER,
    run VARCHAR,
    suite VARCHAR,
    weft_commit VARCHAR,
    branch VARCHAR,
    started_at TIMESTAMP,
    model VARCHAR,
    browser VARCHAR,
    backend VARCHAR,
    scenario VARCHAR,
    asked VARCHAR,
    outcome VARCHAR
);
CREATE TABLE samples (cell UINTEGER, series UTINYINT, place UINTEGER, us DOUBLE)
