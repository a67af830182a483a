CREATE TABLE samples (
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
    outcome VARCHAR,
    series VARCHAR,
    place UINTEGER,
    us DOUBLE
)
