SELECT caller, day, used
FROM spent
WHERE day = ?
