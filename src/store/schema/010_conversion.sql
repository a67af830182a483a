-- How weft made the file of the model that answered, in words; absent for a file that came as it is.
ALTER TABLE runs ADD COLUMN converted VARCHAR;
