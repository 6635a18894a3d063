// The web page of the admin port in headless Chromium: `page.mjs URL`, with a daemon that has seen the demo's
// scenario. Ends with an error at the first thing that is not as it should be.

import assert from 'node:assert/strict';
import { sdk } from './sdk.mjs';

const { chromium } = (await sdk('playwright-core')).default;
const url = process.argv[2];
const origin = new URL(url).origin;

const browser = await chromium.launch({
  executablePath: process.env.PLAINSIGHT_CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'],
});

/** A page that notes what it should not do. */
const open = async (options = {}, prepare = async () => {}) => {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  await context.grantPermissions(['clipboard-read', 'clipboard-write'], { origin });
  const page = await context.newPage();
  const wrong = [];
  page.on('request', (request) => {
    if (new URL(request.url()).origin !== origin) wrong.push(`asked for ${request.url()}`);
  });
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) wrong.push(`console: ${message.text()}`);
  });
  page.on('pageerror', (error) => wrong.push(`error: ${error.message}`));
  await prepare(page);
  await page.goto(url);
  await page.waitForFunction(() => document.getElementById('state').textContent === 'observing');
  return { page, context, fine: () => assert.deepEqual(wrong, []) };
};
const VIEWS = ['map', 'findings', 'flows', 'readiness', 'coverage'];
const show = (page, view) => page.locator(`#tab-${view}`).click();
const shown = (page, view) => page.locator(`#view-${view}`).isVisible();
const edges = (page) => page.locator('.edge').evaluateAll((all) => all.map((edge) => edge.getAttribute('aria-label')));

const test = async (name, body) => {
  await body();
  console.log(`ok  ${name}`);
};

await test('the map has the arrows of the scenario, by verdict', async () => {
  const { page, context, fine } = await open();
  await page.locator('.edge').first().waitFor();
  const labels = await edges(page);
  for (const expected of ['legacy-agent to tool-executor, plaintext', 'gateway to secure-tools, tls']) {
    assert.ok(labels.some((label) => label.startsWith(expected)), `${expected}: ${labels}`);
  }
  const stroke = (verdict) =>
    page.locator(`.edge.${verdict} .wire`).first().evaluate((wire) => getComputedStyle(wire).stroke);
  assert.notEqual(await stroke('plaintext'), await stroke('tls'));
  assert.ok((await page.locator('.space-name').allTextContents()).includes('mcp-production'));
  fine();
  await context.close();
});

await test('everything works by keyboard', async () => {
  const { page, context, fine } = await open();
  await page.locator('.edge').first().waitFor();
  await page.locator('#tab-map').focus();
  for (const view of ['findings', 'flows', 'readiness', 'coverage', 'map']) {
    await page.keyboard.press('ArrowRight');
    assert.ok(await shown(page, view), view);
    assert.equal(await page.evaluate(() => document.activeElement.id), `tab-${view}`);
  }
  const before = (await edges(page)).length;
  await page.keyboard.press('/');
  await page.keyboard.type('secure-tools');
  await page.waitForFunction((all) => document.querySelectorAll('.edge').length < all, before);
  assert.ok((await edges(page)).every((label) => label.includes('secure-tools')));
  await page.keyboard.press('Escape');
  await page.waitForFunction((all) => document.querySelectorAll('.edge').length === all, before);
  // From the filter by Tab over the verdicts and the map itself to the first arrow.
  const onEdge = () => page.evaluate(() => document.activeElement.classList.contains('edge'));
  for (let n = 0; n < 12 && !(await onEdge()); n += 1) await page.keyboard.press('Tab');
  assert.ok(await onEdge());
  await page.keyboard.press('Enter');
  assert.equal(await page.evaluate(() => document.activeElement.getAttribute('aria-pressed')), 'true');
  assert.match(await page.locator('#detail h2').textContent(), / → /);
  await page.keyboard.press('Escape');
  assert.equal(await page.locator('#detail h2').count(), 0);
  await page.locator('.chips input').first().focus();
  await page.keyboard.press('Space');
  assert.equal(await page.locator('.edge.plaintext').count(), 0);
  fine();
  await context.close();
});

await test('a finding has its fix, and the button copies it', async () => {
  const { page, context, fine } = await open();
  await show(page, 'findings');
  const first = page.locator('.finding').first();
  assert.equal(await first.locator('.severity').textContent(), 'critical');
  assert.equal(await first.locator('h3').textContent(), 'plaintext-mcp');
  await first.locator('summary').focus();
  await page.keyboard.press('Enter');
  const fix = await first.locator('pre').textContent();
  assert.ok(fix.length > 20, fix);
  await first.locator('.copy').click();
  await page.waitForFunction(() => document.querySelector('.finding .copy').textContent === 'Copied');
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), fix);
  fine();
  await context.close();
});

await test('coverage lists every pod, and flows every flow', async () => {
  const { page, context, fine } = await open();
  await show(page, 'coverage');
  const { pods } = await (await fetch(`${url}api/v1/coverage`)).json();
  assert.equal(await page.locator('#view-coverage .scroll').first().locator('tbody tr').count(), pods.length);
  await show(page, 'flows');
  const { total } = await (await fetch(`${url}api/v1/flows`)).json();
  assert.equal(await page.locator('#view-flows tbody tr').count(), total);
  fine();
  await context.close();
});

await test('readiness says of every workload whether it may go to STRICT, and why not', async () => {
  const { page, context, fine } = await open();
  await show(page, 'readiness');
  const { workloads } = await (await fetch(`${url}api/v1/readiness`)).json();
  const rows = page.locator('#view-readiness tbody tr');
  await rows.first().waitFor();
  assert.equal(await rows.count(), workloads.length);
  const executor = rows.filter({ hasText: 'mcp-production/tool-executor' });
  assert.match(await executor.textContent(), /no proxy would enforce it/);
  assert.match(await executor.textContent(), /legacy-agent \(service account legacy-agent\) on port 8000: mcp/);
  await executor.locator('summary').click();
  assert.ok((await executor.locator('pre').textContent()).length > 20);
  fine();
  await context.close();
});

await test('readiness is asked for while it is shown, and nothing while the tab is hidden', async () => {
  const NODE = '/api/v1/node';
  const READINESS = '/api/v1/readiness';
  const { page, context, fine } = await open({}, async (page) => {
    // Noted in the page itself, in the order in which it asks.
    await page.addInitScript(() => {
      window.asked = [];
      window.away = false;
      window.looked = 0;
      const fetch = window.fetch;
      window.fetch = (path, ...rest) => {
        window.asked.push(path);
        return fetch(path, ...rest);
      };
      // Each round begins with a look at whether anybody sees it.
      const get = () => {
        window.looked += 1;
        return window.away;
      };
      Object.defineProperty(document, 'hidden', { get });
    });
  });
  /** What is asked for from now on, until a second round begins; all of a round is asked for at once. */
  const rounds = async () => {
    await page.evaluate(() => (window.asked = []));
    await page.waitForFunction((path) => window.asked.filter((asked) => asked === path).length >= 2, NODE);
    return page.evaluate(() => window.asked);
  };
  const other = async (view) => {
    await show(page, view);
    const asked = await rounds();
    assert.ok(!asked.includes(READINESS), `${view}: ${asked}`);
    assert.ok(asked.some((path) => path.startsWith('/api/v1/flows')), `${view}: ${asked}`);
  };
  await other('map');
  await show(page, 'readiness');
  assert.ok((await rounds()).filter((path) => path === READINESS).length >= 2);
  await other('flows');
  const hide = (away) =>
    page.evaluate((away) => {
      window.away = away;
      window.asked = [];
      window.looked = 0;
      document.dispatchEvent(new Event('visibilitychange'));
    }, away);
  await show(page, 'readiness');
  await hide(true);
  // The first look is at the event of having been hidden.
  await page.waitForFunction(() => window.looked >= 3);
  const asked = await page.evaluate(() => window.asked);
  assert.ok(!asked.includes(NODE) && !asked.includes(READINESS), `hidden: ${asked}`);
  await hide(false);
  await page.waitForFunction((path) => window.asked.includes(path), READINESS);
  fine();
  await context.close();
});

await test('a hostile name is text in every view, and no script runs without the nonce', async () => {
  const evil = '"><img src=x onerror="window.canary=1"><script>window.canary=1</script>';
  const { page, context, fine } = await open({}, async (page) => {
    await page.route('**/api/v1/**', async (route) => {
      const answer = await route.fetch();
      const body = await answer.json();
      const rename = (value) => {
        if (Array.isArray(value)) return value.map(rename);
        if (value === null || typeof value !== 'object') return value;
        const names = ['namespace', 'pod', 'name', 'service_account', 'why', 'fix', 'decided_by', 'advice', 'interface', 'resource', 'node', 'trust_domain'];
        const changed = ([key, inner]) =>
          [key, names.includes(key) && typeof inner === 'string' ? evil + inner : rename(inner)];
        return Object.fromEntries(Object.entries(value).map(changed));
      };
      await route.fulfill({ response: answer, json: rename(body) });
    });
  });
  for (const view of VIEWS) {
    await show(page, view);
    if (view === 'readiness') await page.locator('#view-readiness tbody tr').first().waitFor();
    const text = await page.locator(`#view-${view}`).evaluate((node) => node.textContent);
    assert.ok(text.includes(evil.slice(0, 20)), `${view}: ${text}`);
    assert.equal(await page.locator('main img, main script').count(), 0, view);
  }
  assert.equal(await page.evaluate(() => window.canary), undefined);
  fine();
  // A script that got in all the same would not run.
  await page.evaluate(() => {
    const script = document.createElement('script');
    script.textContent = 'window.canary = 1';
    document.body.append(script);
  });
  assert.equal(await page.evaluate(() => window.canary), undefined);
  await context.close();
});

await test('light and dark are both to be read', async () => {
  for (const colorScheme of ['light', 'dark']) {
    const { page, context, fine } = await open({ colorScheme });
    await show(page, 'findings');
    const seen = await page.evaluate(() => {
      const rgb = (text) => text.match(/[\d.]+/g).slice(0, 3).map(Number);
      const light = (colour) => {
        const [r, g, b] = colour.map((part) => part / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
      };
      const of = (selector, property) => light(rgb(getComputedStyle(document.querySelector(selector))[property]));
      const contrast = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
      const card = of('.finding', 'backgroundColor');
      const texts = ['.finding h3', '.finding .quiet', '.finding .severity', '.finding summary', '.card b'];
      return { body: of('body', 'backgroundColor'), contrasts: texts.map((text) => [text, contrast(of(text, 'color'), card)]) };
    });
    assert.ok(colorScheme === 'light' ? seen.body > 0.8 : seen.body < 0.1, `${colorScheme}: ${seen.body}`);
    // WCAG 2.2, 1.4.3: 4.5 to 1 for text.
    for (const [text, contrast] of seen.contrasts) assert.ok(contrast >= 4.5, `${colorScheme} ${text}: ${contrast}`);
    fine();
    await context.close();
  }
});

await test('on a telephone nothing sticks out', async () => {
  const { page, context, fine } = await open({ viewport: { width: 360, height: 740 } });
  for (const view of VIEWS) {
    await show(page, view);
    const width = await page.evaluate(() => document.documentElement.scrollWidth);
    assert.ok(width <= 360, `${view}: ${width}`);
  }
  fine();
  await context.close();
});

await test('a daemon that has gone is told, and one that is back too', async () => {
  const { page, context } = await open();
  await page.route('**/api/v1/**', (route) => route.abort());
  await page.locator('#trouble').waitFor({ state: 'visible' });
  assert.equal(await page.locator('#state').textContent(), 'no answer');
  await page.unroute('**/api/v1/**');
  await page.locator('#trouble').waitFor({ state: 'hidden' });
  await page.route('**/api/v1/**', (route) => route.fulfill({ status: 401, json: { error: 'show the token' } }));
  await page.locator('#login').waitFor({ state: 'visible' });
  await page.unroute('**/api/v1/**');
  const asked = page.waitForRequest((request) => request.headers().authorization === 'Bearer the-token');
  await page.locator('#token').fill('the-token');
  await page.keyboard.press('Enter');
  await asked;
  await page.locator('#login').waitFor({ state: 'hidden' });
  await context.close();
});

await browser.close();
