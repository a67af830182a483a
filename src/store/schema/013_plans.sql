-- Models' computations in stages.
CREATE TABLE plans (
    -- Made of what the plan consists of.
    id VARCHAR PRIMARY KEY,
    -- As JSON.
    plan VARCHAR NOT NULL,
    made_at TIMESTAMP NOT NULL
);

-- Stages that have gone to another lane than their place, or have come back.
CREATE TABLE recoveries (
    plan VARCHAR NOT NULL,
    stage UINTEGER NOT NULL,
    moved_at TIMESTAMP NOT NULL,
    lane VARCHAR NOT NULL,
    -- As JSON; absent for one that has come back.
    fallback VARCHAR
);

-- The stages that a run consisted of, as JSON; absent for a model in one lane.
ALTER TABLE runs ADD COLUMN stages VARCHAR;
