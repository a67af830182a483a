DELETE FROM spent WHERE day < ?
