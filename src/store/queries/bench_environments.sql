SELECT sha256, environment FROM bench_environments
