DELETE FROM bench_cells WHERE run = ?
