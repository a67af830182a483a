-- Whoever asked for a run; those recorded before were asked for where nobody had to say who they are.
ALTER TABLE runs ADD COLUMN caller VARCHAR DEFAULT 'local';

-- Revoked and expired keys stay, so that their runs have a name.
CREATE TABLE keys (
    id VARCHAR PRIMARY KEY,
    name VARCHAR NOT NULL,
    -- SHA-256 of the secret; the secret itself is kept nowhere.
    digest VARCHAR NOT NULL,
    -- Words with spaces between them.
    scopes VARCHAR NOT NULL,
    weight UINTEGER NOT NULL,
    rate_per_second UINTEGER,
    quota_per_day UINTEGER,
    in_flight UINTEGER,
    created_at TIMESTAMP NOT NULL,
    expires_at TIMESTAMP,
    revoked_at TIMESTAMP
);
