WHERE run = ? AND caller = coalesce(?, caller)
ORDER BY seq DESC
LIMIT 1
