SELECT seq, id, suite, suite_sha256, weft_commit, branch, epoch_us(started_at), epoch_us(ended_at),
    epoch_us(kept_at), imported, complete, cells, failures, environment
