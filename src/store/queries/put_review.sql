INSERT INTO reviews (model, reviewed_at, review) VALUES (?, make_timestamp(?), ?)
