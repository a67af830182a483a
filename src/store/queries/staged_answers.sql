WITH newest AS (
    SELECT seq
    FROM runs
    WHERE digest = ? AND stages IS NOT NULL AND outcome = 'ok'
    -- Of each plan: one that answers much would leave nothing of lanes that only others have.
    QUALIFY row_number() OVER (PARTITION BY plan ORDER BY seq DESC) <= 128
    ORDER BY seq DESC
    LIMIT 2048
)
SELECT plan, epoch_us(accepted_at), total_us, stages
FROM runs SEMI JOIN newest USING (seq)
ORDER BY seq DESC
