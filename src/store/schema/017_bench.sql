-- Files of suites that results are of.
CREATE TABLE bench_suites (
    -- Of the file.
    sha256 VARCHAR PRIMARY KEY,
    name VARCHAR NOT NULL
);

-- Machines, lanes and programs that results rest on.
CREATE TABLE bench_environments (
    -- Of the JSON.
    sha256 VARCHAR PRIMARY KEY,
    -- As JSON.
    environment VARCHAR NOT NULL
);

CREATE TABLE bench_runs (
    -- In the order in which they were kept.
    seq BIGINT NOT NULL,
    id VARCHAR PRIMARY KEY,
    suite VARCHAR NOT NULL,
    suite_sha256 VARCHAR NOT NULL,
    weft_commit VARCHAR NOT NULL,
    branch VARCHAR,
    started_at TIMESTAMP NOT NULL,
    ended_at TIMESTAMP NOT NULL,
    kept_at TIMESTAMP NOT NULL,
    -- Whether it came from a file.
    imported BOOLEAN NOT NULL,
    complete BOOLEAN NOT NULL,
    cells UINTEGER NOT NULL,
    failures UINTEGER NOT NULL,
    environment VARCHAR NOT NULL,
    -- The document without its cells, as JSON.
    document VARCHAR NOT NULL
);

CREATE TABLE bench_cells (
    -- The run's `seq`.
    run BIGINT NOT NULL,
    -- Its place among the run's cells.
    cell UINTEGER NOT NULL,
    model VARCHAR NOT NULL,
    browser VARCHAR NOT NULL,
    backend VARCHAR NOT NULL,
    scenario VARCHAR NOT NULL,
    -- The scenario with what varies beside it.
    asked VARCHAR NOT NULL,
    model_sha256 VARCHAR,
    outcome VARCHAR NOT NULL,
    -- Absent without a sample.
    samples UINTEGER,
    median_us DOUBLE,
    low_us DOUBLE,
    high_us DOUBLE,
    -- The document's part of it without its samples, as JSON.
    document VARCHAR NOT NULL
);

CREATE TABLE bench_samples (
    run BIGINT NOT NULL,
    cell UINTEGER NOT NULL,
    -- 0 for what was measured, 1 for the warm-up, 2 for what it took alone.
    series UTINYINT NOT NULL,
    -- Its place in the series.
    place UINTEGER NOT NULL,
    us DOUBLE NOT NULL
);

-- What comparisons of two runs came to, the latest of each pair.
CREATE TABLE bench_verdicts (
    base VARCHAR NOT NULL,
    head VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    browser VARCHAR NOT NULL,
    backend VARCHAR NOT NULL,
    asked VARCHAR NOT NULL,
    verdict VARCHAR NOT NULL,
    -- The head's median over the base's.
    ratio DOUBLE,
    low DOUBLE,
    high DOUBLE,
    probability DOUBLE,
    reason VARCHAR,
    noise DOUBLE NOT NULL,
    judged_at TIMESTAMP NOT NULL
);
