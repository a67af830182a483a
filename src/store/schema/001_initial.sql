-- Times are UTC. Columns named after JSON values hold their text, so that no extension is needed to read them.

CREATE TABLE models (
    name VARCHAR PRIMARY KEY,
    digest VARCHAR NOT NULL,
    bytes UBIGINT NOT NULL,
    signature VARCHAR NOT NULL,
    tolerance DOUBLE NOT NULL,
    source VARCHAR NOT NULL,
    licence VARCHAR,
    opset UBIGINT NOT NULL,
    -- What the correctness gate feeds the model, as JSON; absent when the gate makes its own.
    inputs VARCHAR,
    added_at TIMESTAMP NOT NULL
);

-- Verdicts outlive the model's name: they are about the bytes, and are true again when the same file is added again.
CREATE TABLE verdicts (
    -- The key's canonical JSON; the columns up to `threads` repeat parts of it for people.
    key VARCHAR PRIMARY KEY,
    digest VARCHAR NOT NULL,
    browser VARCHAR NOT NULL,
    browser_version VARCHAR NOT NULL,
    backend VARCHAR NOT NULL,
    engine VARCHAR NOT NULL,
    adapter VARCHAR,
    webnn_device VARCHAR,
    threads UINTEGER NOT NULL,
    status VARCHAR NOT NULL,
    error DOUBLE,
    tolerance DOUBLE NOT NULL,
    inputs UINTEGER NOT NULL,
    detail VARCHAR NOT NULL,
    proven_at TIMESTAMP NOT NULL
);

-- One row per attempt. The columns from `digest` to `fallback` are null when no lane was ever chosen.
-- Without an index: rows come in the order of `seq`, so block statistics find a page of them.
CREATE TABLE runs (
    -- The order of recording, without holes.
    seq BIGINT NOT NULL,
    run VARCHAR NOT NULL,
    accepted_at TIMESTAMP NOT NULL,
    model VARCHAR NOT NULL,
    digest VARCHAR,
    instance VARCHAR,
    lane VARCHAR,
    browser VARCHAR,
    browser_version VARCHAR,
    backend VARCHAR,
    placement VARCHAR,
    adapter VARCHAR,
    software_adapter BOOLEAN,
    webnn_device VARCHAR,
    sandbox BOOLEAN,
    engine VARCHAR,
    threads UINTEGER,
    verdict VARCHAR,
    plan VARCHAR,
    attempt UINTEGER,
    fallback VARCHAR,
    queue_us UBIGINT NOT NULL,
    transfer_us UBIGINT NOT NULL,
    decode_us UBIGINT NOT NULL,
    compute_us UBIGINT NOT NULL,
    encode_us UBIGINT NOT NULL,
    total_us UBIGINT NOT NULL,
    -- `ok` or the error's code.
    outcome VARCHAR NOT NULL,
    error VARCHAR,
    retry VARCHAR
);
