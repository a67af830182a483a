INSERT OR REPLACE INTO models
    (name, digest, bytes, signature, tolerance, source, licence, opset, inputs, added_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, make_timestamp(?))
