SELECT base, model, browser, backend, asked, verdict, ratio, low, high, probability, reason, noise, epoch_us(judged_at)
FROM bench_verdicts
WHERE head = ?
ORDER BY judged_at DESC, base, model, browser, backend, asked
