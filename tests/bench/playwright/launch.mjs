/**
 * A browser launched by Playwright and sent to a page. The task comes as JSON in the first line of standard input;
 * `loaded` is printed when the script could begin, a second line lets it, and the end of standard input ends it.
 */

import { createInterface } from 'node:readline';
import { chromium } from 'playwright-core';

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const task = JSON.parse((await lines.next()).value);
console.log('loaded');
await lines.next();
const browser = await chromium.launch({ executablePath: task.executable, chromiumSandbox: task.sandbox });
try {
  const page = await browser.newPage();
  await page.goto(task.url);
  await lines.next();
} finally {
  await browser.close();
}
