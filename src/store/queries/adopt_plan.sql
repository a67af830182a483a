UPDATE plans SET own = false WHERE id = ?
