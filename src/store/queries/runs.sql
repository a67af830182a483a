WHERE seq < ? AND caller = coalesce(?, caller)
ORDER BY seq DESC
LIMIT ?
