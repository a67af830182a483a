-- What is known of a variant: the same bytes, whatever they are called.
CREATE TABLE variants (
    digest VARCHAR PRIMARY KEY,
    -- The model that it was made of.
    original VARCHAR NOT NULL,
    recipe VARCHAR NOT NULL,
    -- With the weights beside it.
    original_bytes UBIGINT NOT NULL,
    bytes UBIGINT NOT NULL,
    bits_per_changed_weight DOUBLE NOT NULL,
    bits_per_weight DOUBLE NOT NULL,
    -- How far off its answers are and on what that was measured, as JSON.
    accuracy VARCHAR NOT NULL,
    made_at TIMESTAMP NOT NULL
);
