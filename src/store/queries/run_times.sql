SELECT epoch_us(accepted_at), total_us, outcome, lane
FROM runs
