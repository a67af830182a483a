// Uses the dashboard as somebody would; `KEY` and `PLAN` were put before it.

const STRANGE = "<img src=x onerror=alert(1)>\"'&模型🦊";

async function guarded() {
  await until("the question for a key", () => one("#key"));
  await logIn("weft_0123456789ab_wrong");
  const refused = await until("a refusal", () => !one(".login .trouble").hidden && text(".login .trouble"));
  const kept = location.search;
  await logIn(KEY);
  await until("the filters", () => one("[name=model]")?.value === "neg");
  return { refused, kept, model: one("[name=model]").value, outcome: one("[name=outcome]").value };
}

async function requests() {
  await until("live", live);
  const before = all(".runs tbody tr").length;
  for (let at = 0; at < 3; at += 1) await negate({ backend: "wasm" });
  await until("three rows", () => all(".runs tbody tr").length === before + 3);
  const outcome = one("[name=outcome]");
  type(outcome, "failed");
  await until("no rows", () => all(".runs tbody tr").length === 0 && location.search.includes("outcome=failed"));
  history.back();
  await until("the rows again", () => all(".runs tbody tr").length === before + 3);
  const back = [location.search, outcome.value];
  type(one(".save input"), STRANGE);
  one(".save button").click();
  const saved = await until("the saved view", () => one(".saved a"));
  const savedAs = [saved.textContent === STRANGE, new URL(saved.href).search, saved.getAttribute("aria-current")];
  one(".runs tbody a").click();
  const title = await until("the details", () => one("#run-title"));
  const details = { focused: document.activeElement === title, parts: all(".details .part").length > 1, lane: text(".details .facts a"), url: location.search.includes("run=") };
  one(".details .close").click();
  await until("the details' end", () => one("#run-title") === null);
  type(one("[name=model]"), STRANGE);
  await until("nothing of that name", () => text(".view > .about").includes("No recorded request"));
  const filtered = new URLSearchParams(location.search).get("model") === STRANGE;
  const canvas = one(".latency canvas");
  return { back, savedAs, details, filtered, label: canvas.getAttribute("aria-label").length > 20 };
}

const state = (instance) => text(`.card[aria-label="${instance}"] > header .badge`);

async function pool() {
  link("Overview").click();
  await until("the browser's card", () => ["ready", "busy"].includes(state("chromium-1")));
  const lane = await until("its lane", () => all('.card[aria-label="chromium-1"] tbody tr').find((row) => row.textContent.includes("wasm")));
  const held = await until("its model", () => lane.textContent.includes("neg"));
  const figures = await until("the last minute", () => text(".tile strong") !== "0");
  const rows = one('.card[aria-label="chromium-1"] tbody tr');
  await fetch("/api/v1/instances/chromium-1/restart", { method: "POST" });
  const during = await until("another state", () => !["ready", "busy"].includes(state("chromium-1")) && state("chromium-1"));
  const spoken = await until("its being said", () => text("#spoken").includes("chromium-1 is"));
  await until("ready again", () => ["ready", "busy"].includes(state("chromium-1")));
  return { held, figures: Boolean(figures), during: during.length > 0, spoken: Boolean(spoken), same: rows === one('.card[aria-label="chromium-1"] tbody tr') };
}

async function cut() {
  await fetch("/test/cut");
  const lost = await until("the loss", () => one(".standing").dataset.state === "lost" && text(".standing"));
  const spoken = await until("its being said", () => text("#spoken").includes("lost"));
  await fetch("/test/mend");
  one(".tools button").click();
  await until("live again", live);
  await until("its being said", () => text("#spoken").includes("again"));
  return { lost: lost.startsWith("Connection lost"), spoken: Boolean(spoken), trouble: one("body > .trouble").hidden };
}

// A suite whose name would be markup if anything took it for that.
async function suites() {
  const socket = new WebSocket(`${location.origin.replace("http", "ws")}/v2/ws`, "weft.v2");
  await new Promise((opened) => { socket.onopen = opened; });
  const progress = { id: "smoke-1", suite: STRANGE, cells: 10, ended: 4, failed: 1, now: STRANGE, remaining_us: 90e6, at_most_us: 120e6 };
  socket.send(JSON.stringify({ type: "progress", progress }));
  const card = await until("the suite", () => one(".suite"));
  const shown = { name: text(".suite h3") === STRANGE, left: text(".suite header strong"), value: one(".suite progress").value };
  socket.close();
  await until("the suite's end", () => one(".suite") === null);
  return { ...shown, card: card.tagName };
}

async function plans() {
  link("Plans").click();
  await until("the picture", () => all(".stage").length === 2);
  const values = Array.from({ length: 16 }, (_, at) => at / 16);
  const ask = () => infer("whole", [1, 16], values, { plan: PLAN });
  await ask();
  await until("its times", () => text(".stage").includes("computes"));
  const moved = await until("bytes of the edge", () => text(".moved"));
  await fetch("/api/v1/instances/chromium-1/restart", { method: "POST" });
  await until("a stage elsewhere", () => { void ask(); return all('.stage[data-state="moved"]').length > 0; });
  const told = text(".recoveries li");
  await until("the browser's return", () => { void ask(); return all('.stage[data-state="moved"]').length === 0; });
  return { moved, told: told.includes("Stage 0"), named: one(".stage").getAttribute("aria-label").includes("first") };
}

// Fourteen runs of two cells, of which the one in firefox is slower since its upgrade.
async function overTime() {
  link("History").click();
  await until("both cells", () => all(".trend .medians").length === 2);
  const choices = all("[name=browser] option").map(({ value }) => value);
  const hidden = one("[name=precision]").parentElement.hidden;
  const change = text(".trend .change text");
  const upgrade = text(".trend .event title");
  const rows = all('.table [aria-label="Changes"] tbody tr').length;
  one('.table [aria-label="Changes"] tbody a').click();
  await until("one cell alone", () => all(".trend").length === 1 && all('[aria-label="Runs"] tbody tr').length === 14);
  const chosen = text("tr.chosen td:last-child");
  const chart = await until("its chart", () => one(".trend:has(.medians)"));
  chart.focus();
  const press = (key) => chart.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
  press("Home");
  press("ArrowRight");
  const note = [text(".note").startsWith("0.100 ("), text("figure .unseen") === ""];
  press("Enter");
  await until("the second run", () => text("tr.chosen td:last-child") === `${STRANGE}-1`);
  type(one("[name=metric]"), "relative");
  await until("multiples", () => text(".table th:nth-child(2)").includes("× the first"));
  const address = Object.fromEntries(new URLSearchParams(location.search));
  type(one(".save input"), "since the upgrade");
  one(".save button").click();
  await until("the saved view", () => link("since the upgrade"));
  one(".filters button").click();
  await until("both cells again", () => all(".trend").length === 2);
  link("since the upgrade").click();
  await until("what was saved", () => all(".trend").length === 1);
  type(one("[name=metric]"), "rate");
  await until("no rate", () => text(".view > [role=status]").includes("sent at once"));
  type(one("[name=suite]"), STRANGE);
  await until("the whole suite", () => !location.search.includes("browser="));
  return { choices, hidden, change, upgrade, rows, chosen: chosen === `${STRANGE}-7`, note, address: { ...address, suite: address.suite === STRANGE } };
}

// A result is seen as soon as it is kept, and runs before a moment have an address.
async function kept() {
  const over = (runs) => () => all(".trend .medians").length === 2 && text(".view").includes(`2 cells over ${runs}`);
  link("History").click();
  await until("all runs", over("14 runs"));
  const last = await fetch(`/api/v1/bench/runs/${encodeURIComponent(`${STRANGE}-13`)}`).then((answer) => answer.json());
  const [started_at_us, ended_at_us] = [last.started_at_us + 1, last.ended_at_us + 1];
  await fetch("/api/v1/bench/runs", { method: "POST", body: JSON.stringify({ ...last, id: "newer", started_at_us, ended_at_us }) });
  await until("the run that was kept", over("15 runs"));
  const pages = all("a").filter((a) => a.textContent.endsWith(" runs")).length;
  history.pushState(null, "", "/?view=history&before=1005");
  dispatchEvent(new PopStateEvent("popstate"));
  await until("earlier runs", over("earlier 5 runs"));
  link("The newest runs").click();
  await until("the newest again", over("15 runs"));
  return { pages, before: location.search.includes("before=") };
}

async function left() {
  link("Requests").click();
  await until("the filters", () => one(".filters"));
  await fetch("/api/v1/session", { method: "DELETE" });
  link("Suites").click();
  await until("the question for a key", () => one("#key"));
  const kept = location.search;
  await logIn(KEY);
  await until("the view", () => text("h1").includes("Suites"));
  all(".tools button").find((button) => button.textContent === "Log out").click();
  await until("the question for a key", () => one("#key"));
  return { kept, cookie: document.cookie };
}

async function look() {
  const said = { guarded: await guarded() };
  for (const part of [requests, pool, cut, suites, plans, overTime, kept, left]) said[part.name] = await part();
  const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  return { ...said, violations, images: all("img").length, wide };
}

tell(await look().catch((error) => ({ error: `${error} ${error.stack}`, violations })));
