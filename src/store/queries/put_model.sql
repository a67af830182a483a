INSERT OR REPLACE INTO models
    (name, digest, nth, bytes, signature, tolerance, source, licence, opset, inputs, added_at, batching, kind, revision,
    external, companions, conversion,
    operators, parameters, parameter_bytes, cost, verification, verified_at, pinned, again)
SELECT ?, ?, (SELECT coalesce(max(nth), 0) + 1 FROM models), ?, ?, ?, ?, ?, ?, ?, make_timestamp(?), ?, ?, ?,
    ?, ?, ?,
    ?, ?, ?, ?, ?, make_timestamp(?), ?, ?
