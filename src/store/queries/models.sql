SELECT name, digest, bytes, signature, tolerance, source, licence, opset, kind, batching, revision,
    external, companions, conversion, epoch_us(added_at),
    operators, parameters, parameter_bytes, cost, verification,
    coalesce(pinned, false), coalesce(again, false),
    coalesce(uses.uses, 0), coalesce(uses.last_used, 0)
FROM models LEFT JOIN uses USING (name, digest)
ORDER BY name, nth DESC
