INSERT OR REPLACE INTO spent (caller, day, used) VALUES (?, ?, ?)
