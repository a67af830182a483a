INSERT OR REPLACE INTO models
    (name, digest, nth, bytes, signature, tolerance, source, licence, opset, inputs, added_at, batching, kind, revision,
    external, companions,
    operators, parameters, parameter_bytes, cost, converted_from, conversion, verification, verified_at)
SELECT ?, ?, (SELECT coalesce(max(nth), 0) + 1 FROM models), ?, ?, ?, ?, ?, ?, ?, make_timestamp(?), ?, ?, ?,
    ?, ?,
    ?, ?, ?, ?, ?, ?, ?, make_timestamp(?)
