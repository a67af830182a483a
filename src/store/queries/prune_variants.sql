-- Of files that nobody named.
DELETE FROM variants
WHERE digest NOT IN (SELECT digest FROM models)
