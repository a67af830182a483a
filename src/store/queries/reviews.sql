SELECT review
FROM reviews
WHERE model = ?
ORDER BY reviewed_at DESC
