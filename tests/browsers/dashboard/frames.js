// How soon the dashboard is there, and how long its frames take with as many points as it shows.

const SECONDS = 5;

const paint = () => performance.getEntriesByName("first-contentful-paint")[0]?.startTime;

// Milliseconds from one frame to the next, while `each` is called in every frame.
function frames(each) {
  return new Promise((over) => {
    const took = [];
    const started = performance.now();
    let last;
    const frame = (now) => {
      if (last !== undefined) took.push(now - last);
      last = now;
      if (now - started > SECONDS * 1000) return over(took);
      each(now - started);
      requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
  });
}

const rank = (sorted, share) => Number(sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)].toFixed(1));
function summary(took) {
  const sorted = took.toSorted((a, b) => a - b);
  return { frames: sorted.length, p50: rank(sorted, 0.5), p95: rank(sorted, 0.95), p99: rank(sorted, 0.99), most: rank(sorted, 1) };
}

async function measure() {
  const shown = await until("the first figures", () => all(".tile strong").length === 6 && text(".tile strong") !== "" && performance.now());
  const first = await until("a first paint", paint);
  link("Requests").click();
  const asked = performance.now();
  await until("all points", () => text("figcaption span").startsWith("100,000 requests"));
  const drawn = performance.now() - asked;
  // What a page of rows takes the daemon with so many of them.
  const pages = [];
  for (let at = 0; at < 20; at += 1) {
    const began = performance.now();
    await fetch("/api/v1/runs?limit=50&outcome=ok").then((answer) => answer.json());
    pages.push(performance.now() - began);
  }
  await sleep(500);
  const still = await frames(() => {});
  // Each frame asks for the nearest of all points, and requests come that have the whole chart drawn again.
  const canvas = one(".latency canvas");
  const { width, height } = canvas.getBoundingClientRect();
  let nextAt = 0;
  const busy = await frames((at) => {
    const [x, y] = [width * (0.5 + 0.4 * Math.sin(at / 300)), height * (0.5 + 0.3 * Math.cos(at / 500))];
    canvas.dispatchEvent(new PointerEvent("pointermove", { clientX: canvas.getBoundingClientRect().left + x, clientY: canvas.getBoundingClientRect().top + y, bubbles: true }));
    if (at >= nextAt) {
      nextAt = at + 50;
      void negate({ backend: "ort-cpu" });
    }
  });
  return { first_paint_ms: Math.round(first), figures_ms: Math.round(shown), points_ms: Math.round(drawn), page_ms: summary(pages), still: summary(still), busy: summary(busy), violations };
}

tell(await measure().catch((error) => ({ error: `${error} ${error.stack}`, violations })));
