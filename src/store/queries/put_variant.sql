INSERT OR REPLACE INTO variants
    (digest, original, recipe, original_bytes, bytes, bits_per_changed_weight, bits_per_weight, accuracy, made_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, make_timestamp(?))
