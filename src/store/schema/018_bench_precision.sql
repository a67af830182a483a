-- What the matrix calls the precision; absent where it names none.
ALTER TABLE bench_cells ADD COLUMN precision VARCHAR;
UPDATE bench_cells SET precision = nullif(regexp_extract(document, '"precision":"([^"]*)"', 1), '');
