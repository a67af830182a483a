SELECT document FROM bench_cells WHERE run = ? ORDER BY cell
