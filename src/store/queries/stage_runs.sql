SELECT stages
FROM runs
WHERE digest = ? AND stages IS NOT NULL AND outcome = 'ok'
ORDER BY seq DESC
LIMIT 128
