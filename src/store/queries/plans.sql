SELECT id, plan, epoch_us(made_at), error, coalesce(own, false) FROM plans ORDER BY made_at, id
