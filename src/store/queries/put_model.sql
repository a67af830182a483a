INSERT OR REPLACE INTO models
    (name, digest, bytes, signature, tolerance, source, licence, opset, inputs, added_at, batching, kind, revision,
     external, companions, conversion)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, make_timestamp(?), ?, ?, ?, ?, ?, ?)
