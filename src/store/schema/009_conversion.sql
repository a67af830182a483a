-- JSON: how weft made the model's file; absent for a file that came as it is.
ALTER TABLE models ADD COLUMN conversion VARCHAR;
-- The same in words, of the model that answered.
ALTER TABLE runs ADD COLUMN converted VARCHAR;
