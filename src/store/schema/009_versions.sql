-- A name has a row for each file that was added under it, and stands for the one added last.
CREATE TABLE versions (
    name VARCHAR NOT NULL,
    digest VARCHAR NOT NULL,
    -- The order of adding: clocks go back.
    nth UBIGINT NOT NULL,
    added_at TIMESTAMP NOT NULL,
    bytes UBIGINT NOT NULL,
    signature VARCHAR NOT NULL,
    tolerance DOUBLE NOT NULL,
    source VARCHAR NOT NULL,
    revision VARCHAR,
    licence VARCHAR,
    opset UBIGINT NOT NULL,
    kind VARCHAR NOT NULL,
    batching VARCHAR,
    inputs VARCHAR,
    external VARCHAR,
    companions VARCHAR,
    -- What the file is made of; absent for what an earlier weft added.
    operators VARCHAR,
    parameters UBIGINT,
    parameter_bytes UBIGINT,
    cost VARCHAR,
    -- How weft made the file, as JSON; absent for files that came as they are.
    conversion VARCHAR,
    -- The last verification, as JSON, and when it began.
    verification VARCHAR,
    verified_at TIMESTAMP,
    PRIMARY KEY (name, digest)
);

INSERT INTO versions
    (name, digest, nth, added_at, bytes, signature, tolerance, source, revision, licence, opset, kind, batching, inputs,
    external, companions)
SELECT name, digest, row_number() OVER (ORDER BY added_at, name), added_at, bytes, signature, tolerance, source, revision,
    licence, opset, coalesce(kind, 'other'), batching, inputs, external, companions
FROM models;

DROP TABLE models;
ALTER TABLE versions RENAME TO models;

-- Apart from the models, because it is written while they are used.
CREATE TABLE uses (
    name VARCHAR NOT NULL,
    digest VARCHAR NOT NULL,
    uses UBIGINT NOT NULL,
    -- Milliseconds since the Unix epoch.
    last_used UBIGINT NOT NULL,
    PRIMARY KEY (name, digest)
);
