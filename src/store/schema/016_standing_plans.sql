-- Whether a plan was made to stand for its model, and goes when it stands no more.
ALTER TABLE plans ADD COLUMN own BOOLEAN;

-- The plans under which models' requests run that leave it to the daemon.
CREATE TABLE standing_plans (
    -- The whole model's file.
    model VARCHAR PRIMARY KEY,
    -- `single` for the whole model in one lane.
    plan VARCHAR NOT NULL,
    -- How the model is to be split, as JSON.
    wanted VARCHAR NOT NULL,
    -- A plan that was measured to be better, once.
    better_once VARCHAR,
    kept_at TIMESTAMP NOT NULL
);

-- Looks at whether there is a better plan than the one that stands.
CREATE TABLE reviews (
    model VARCHAR NOT NULL,
    reviewed_at TIMESTAMP NOT NULL,
    -- As JSON.
    review VARCHAR NOT NULL
);
