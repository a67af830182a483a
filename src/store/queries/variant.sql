SELECT digest, original, recipe, original_bytes, bytes, bits_per_changed_weight, bits_per_weight, accuracy, epoch_us(made_at)
FROM variants
WHERE digest = ?
