-- What a model does; what was added before was not asked for it.
ALTER TABLE models ADD COLUMN kind VARCHAR DEFAULT 'other';
