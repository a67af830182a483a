SELECT
    seq, run, epoch_us(accepted_at), model,
    digest, instance, lane, browser, browser_version, backend, placement, adapter, software_adapter,
    webnn_device, sandbox, engine, threads, verdict, plan, attempt, fallback,
    queue_us, transfer_us, decode_us, compute_us, encode_us, total_us,
    outcome, error, retry, request, batch, caller, converted, stages
FROM runs
