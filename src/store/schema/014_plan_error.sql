-- How far a plan's answers were from the whole model's when it was proven.
ALTER TABLE plans ADD COLUMN error DOUBLE;
