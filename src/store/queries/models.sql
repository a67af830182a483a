SELECT name, digest, bytes, signature, tolerance, source, licence, opset, kind, batching, revision,
    external, companions, conversion, epoch_us(added_at)
FROM models
ORDER BY name
