// What the scripts of the dashboard's tests share; it stands before each of them.

const LIMIT_MS = 40_000;
const violations = [];
document.addEventListener("securitypolicyviolation", ({ violatedDirective, blockedURI }) => {
  violations.push(`${violatedDirective} ${blockedURI}`);
});
addEventListener("error", ({ message }) => { violations.push(`error ${message}`); });
addEventListener("unhandledrejection", ({ reason }) => { violations.push(`rejection ${reason}`); });

const one = (selector) => document.querySelector(selector);
const all = (selector) => [...document.querySelectorAll(selector)];
const text = (selector) => one(selector)?.textContent ?? "";
const sleep = (ms) => new Promise((over) => setTimeout(over, ms));

// What `look` finds, once it finds anything.
async function until(what, look) {
  const started = performance.now();
  for (;;) {
    const found = look();
    if (found) return found;
    if (performance.now() - started > LIMIT_MS) {
      throw new Error(`${what} never happened: ${document.body.innerText.slice(0, 1500)}`);
    }
    await sleep(25);
  }
}

async function tell(said) {
  const bytes = new TextEncoder().encode(JSON.stringify(said));
  await fetch(`/test/told?${[...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("")}`);
}

function type(input, value) {
  input.value = value;
  input.dispatchEvent(new Event("input", { bubbles: true }));
  input.dispatchEvent(new Event("change", { bubbles: true }));
}

const link = (name) => all("a").find((a) => a.textContent === name);
const live = () => one(".standing")?.dataset.state === "live";

async function logIn(key) {
  (await until("the question for a key", () => one("#key"))).value = key;
  one(".login button").click();
}

const infer = (model, shape, data, parameters = {}) => fetch(`/v2/models/${model}/infer`, {
  method: "POST",
  body: JSON.stringify({ inputs: [{ name: "x", datatype: "FP32", shape, data }], parameters }),
}).then((answer) => answer.json());
const negate = (parameters) => infer("neg", [1, 4], [1, 2, 3, 4], parameters);
