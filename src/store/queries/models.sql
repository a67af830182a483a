SELECT name, digest, bytes, signature, tolerance, source, licence, opset, kind, batching, revision, epoch_us(added_at)
FROM models
ORDER BY name
