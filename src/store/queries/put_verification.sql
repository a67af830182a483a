UPDATE models
SET verification = ?, verified_at = make_timestamp(?), batching = ?, inputs = coalesce(?, inputs)
WHERE name = ? AND digest = ?
