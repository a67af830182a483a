INSERT OR REPLACE INTO standing_plans (model, plan, wanted, better_once, kept_at)
VALUES (?, ?, ?, ?, make_timestamp(?))
