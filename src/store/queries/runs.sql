WHERE seq < ?
  AND caller = coalesce(?, caller)
  AND model = coalesce(?, model)
  AND lane IS NOT DISTINCT FROM coalesce(?, lane)
  AND plan IS NOT DISTINCT FROM coalesce(?, plan)
  AND outcome = coalesce(?, outcome)
  -- Whether those that went well are meant as well.
  AND (? OR outcome <> 'ok')
  AND accepted_at BETWEEN make_timestamp(?) AND make_timestamp(?)
ORDER BY seq DESC
LIMIT ?
