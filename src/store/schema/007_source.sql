-- What pins the source: a commit, a version, an ETag, a digest; absent for uploads.
ALTER TABLE models ADD COLUMN revision VARCHAR;
