SELECT id, plan, epoch_us(made_at), error FROM plans ORDER BY made_at, id
