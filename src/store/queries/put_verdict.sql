INSERT OR REPLACE INTO verdicts
    (key, digest, browser, browser_version, backend, engine, adapter, webnn_device, threads,
     status, error, tolerance, inputs, detail, proven_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, make_timestamp(?))
