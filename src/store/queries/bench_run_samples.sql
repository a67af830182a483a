SELECT cell, series, us FROM bench_samples WHERE run = ? ORDER BY cell, series, place
