-- What joins a run to its caller's request, to logs and to traces; absent in older rows.
ALTER TABLE runs ADD COLUMN request VARCHAR;
