-- JSON: the files that weights lie in, digest to bytes, and what belongs to a model, name to digest.
ALTER TABLE models ADD COLUMN external VARCHAR;
ALTER TABLE models ADD COLUMN companions VARCHAR;
