-- What has been applied to this database. Read before anything else, so it is not a migration itself.
CREATE TABLE IF NOT EXISTS schema_migrations (
    version INTEGER PRIMARY KEY,
    name VARCHAR NOT NULL,
    -- SHA-256 of the migration's text.
    digest VARCHAR NOT NULL,
    applied_at TIMESTAMP NOT NULL
);
