SELECT id, plan, epoch_us(made_at) FROM plans ORDER BY made_at, id
