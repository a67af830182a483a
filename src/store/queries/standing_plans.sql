SELECT model, plan, wanted, better_once, epoch_us(kept_at) FROM standing_plans ORDER BY model
