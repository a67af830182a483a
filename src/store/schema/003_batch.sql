-- How requests share steps, as JSON; absent when that was never tried.
ALTER TABLE models ADD COLUMN batching VARCHAR;

-- Requests in the run's step.
ALTER TABLE runs ADD COLUMN batch UINTEGER;
