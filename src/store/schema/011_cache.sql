-- Whether a model's files stay whatever room others need, and whether they came from where they can be had again; absent
-- for no.
ALTER TABLE models ADD COLUMN pinned BOOLEAN;
ALTER TABLE models ADD COLUMN again BOOLEAN;
