-- Models' computations in stages.
CREATE TABLE plans (
    -- Made of what the plan consists of.
    id VARCHAR PRIMARY KEY,
    -- As JSON.
    plan VARCHAR NOT NULL,
    made_at TIMESTAMP NOT NULL
);

-- The stages that a run consisted of, as JSON; absent for a model in one lane.
ALTER TABLE runs ADD COLUMN stages VARCHAR;
