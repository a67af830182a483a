-- What callers have used of their quotas of a day.
CREATE TABLE spent (
    caller VARCHAR PRIMARY KEY,
    -- Counted from the Unix epoch, in UTC.
    day UINTEGER NOT NULL,
    used UINTEGER NOT NULL
);
