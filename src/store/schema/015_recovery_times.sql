-- From the loss of a stage's lane until its next answer, in microseconds; absent where none was lost.
ALTER TABLE recoveries ADD COLUMN took_us UBIGINT;
