// Looks at the dashboard as a person would: node look.mjs FOLDER-WITH-DIBBER FOLDER-FOR-SCREENSHOTS
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { test, after, before } from 'node:test';
import { chromium } from 'playwright-core';
import { Nodes, freePorts, until } from './nodes.mjs';

const [work, shots] = process.argv.slice(2);
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const loopback = '/ip4/127.0.0.1/udp/0/quic-v1';
const nodes = new Nodes(work);
const errors = [];
let browser;
let page;
let ports;
let relay;
let peer;

const startRelay = () => nodes.serve('relay', '--relay', '--rendezvous', '--relay-unlimited', '--relay-rate', '300000',
  '--listen', `/ip4/127.0.0.1/udp/${ports.quic}/quic-v1`, '--http', `127.0.0.1:${ports.http}`);
const startPeer = (name, namespace) => nodes.serve(name, '--perf', '--private-node', '--use-relay', relay.addrs[0], '--register', relay.addrs[0],
  '--namespace', namespace, '--record-format', 'standard', '--listen', loopback);

// text is what a part of the page shows.
const text = (selector) => page.locator(selector).first().innerText();
const rows = (table) => page.locator(`#${table} tbody tr:not(.none)`).count();
const status = (state) => until(`the page is ${state}`, async () => await page.locator('#status').getAttribute('data-state') === state);
const shot = (name) => page.screenshot({ path: `${shots}/${name}.png`, fullPage: name !== 'small' });

async function grave() {
  await page.evaluate(axe);
  const found = await page.evaluate(() => window.axe.run(document));
  return found.violations.filter((v) => v.impact === 'serious' || v.impact === 'critical')
    .map((v) => `${v.id}: ${v.nodes.map((n) => `${n.target} ${n.failureSummary}`).join('; ')}`);
}

before(async () => {
  mkdirSync(shots, { recursive: true });
  ports = await freePorts();
  relay = await startRelay();
  peer = await startPeer('peer', 'gardens');
  await startPeer('other', 'seeds');
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM || '/usr/bin/chromium', args: ['--no-sandbox'] });
  page = await browser.newPage({ viewport: { width: 1280, height: 900 } });
  page.on('console', (m) => { if (m.type() === 'error') errors.push(m.text()); });
  page.on('pageerror', (e) => errors.push(String(e)));
});

after(async () => {
  await browser?.close();
  await nodes.end();
});

test('loads, and shows who is there', async () => {
  await page.goto(relay.http);
  await status('live');
  await until('two reservations', async () => await rows('reservations') === 2);
  await until('two namespaces', async () => await rows('namespaces') === 2);
  assert.match(await text('#node'), new RegExp(relay.peer));
  assert.match(await text('#namespaces'), /gardens/);
});

test('a circuit appears and its bytes grow', async () => {
  // Who keeps to a table of peers is not punched, and stays on the relay.
  writeFileSync(`${work}/table`, `relay ${relay.addrs[0]}\npeer ${relay.addrs[0]}/p2p-circuit/p2p/${peer.peer}\n`);
  const traffic = nodes.run('perf', '--no-discovery', '--peers', `@${work}/table`, '--duration', '8s', '--listen', loopback, '@peer');
  nodes.run('dial', '--relay-only', '--listen', loopback, `${relay.addrs[0]}/p2p-circuit/p2p/12D3KooWNeGGXYHyxdahjZjHssPuWPWDq6GXfoJGyXcPuk7qZZze`);
  await until('a circuit', async () => await rows('circuits') > 0);
  const amount = async () => {
    const [n, unit] = (await text('#circuits tbody td:nth-child(4)')).split(' ');
    return Number(n) * 1024 ** ['B', 'KiB', 'MiB', 'GiB'].indexOf(unit);
  };
  for (let was = await amount(), i = 0; i < 3; i++) {
    was = await until(`more bytes than ${was}`, async () => { const now = await amount(); return now > was && now; });
  }
  assert.equal(await page.locator('#graph').getAttribute('data-arcs'), '1');
  await until('a rate', async () => !(await text('#circuits tbody td:nth-child(5)')).startsWith('0 '));
  await until('a round trip', async () => /ms/.test(await text('#peers')));
  await until('a refusal with its reason', async () => /no-reservation/.test(await text('#refusals')));
  await shot('light');
  await page.setViewportSize({ width: 1040, height: 760 });
  await shot('small');
  await page.setViewportSize({ width: 1280, height: 900 });
  await traffic.ended;
  await until('the end of the circuit', async () => await rows('circuits') === 0);
});

test('a hole punch is seen', async () => {
  const punched = nodes.run('perf', '--until-direct', '--duration', '3s', '--listen', loopback, `${relay.addrs[0]}/p2p-circuit/p2p/${peer.peer}`);
  await punched.ended;
  await until(`the punch: ${punched.said}`, async () => /offer carried|both still here/.test(await text('#meetings')));
});

test('no serious fault for those who use it otherwise', async () => {
  assert.deepEqual(await grave(), []);
  await page.locator('#theme').selectOption('dark');
  assert.deepEqual(await grave(), []);
  await shot('dark');
  await page.setViewportSize({ width: 360, height: 740 });
  assert.deepEqual(await grave(), []);
  assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= window.innerWidth), 'a phone has to scroll sideways');
  await shot('phone');
  await page.setViewportSize({ width: 1280, height: 900 });
  await page.locator('#theme').selectOption('');
});

test('goes by keyboard', async () => {
  await page.evaluate(() => { document.activeElement.blur(); window.scrollTo(0, 0); });
  const reached = [];
  for (let i = 0; i < 10; i++) {
    await page.keyboard.press('Tab');
    reached.push(await page.evaluate(() => document.activeElement.id || document.activeElement.className || document.activeElement.getAttribute('aria-labelledby')));
  }
  assert.deepEqual(reached.slice(0, 4), ['skip', 'redact', 'pause', 'theme']);
  assert.ok(reached.includes('scroll'), `no table was reached: ${reached}`);
});

test('shows neither who nor where when told so', async () => {
  await page.locator('#redact').check();
  await until('names are hidden', async () => !(await page.locator('body').innerText()).includes(relay.peer));
  await until('rows with stand-ins', async () => /peer-\d/.test(await text('#reservations')));
  const all = await page.content();
  for (const secret of [relay.peer, peer.peer, 'gardens', '127.0.0.1']) assert.ok(!all.includes(secret), `${secret} is to be seen`);
  await shot('redacted');
  await page.locator('#redact').uncheck();
});

test('no console errors so far', () => assert.deepEqual(errors, []));

test('survives a restart of the node', async () => {
  await nodes.stop(relay.process);
  await status('lost');
  relay = await startRelay();
  await status('live');
  await until('the reservations are back', async () => await rows('reservations') === 2, 60);
  // What the browser says about a node that is away is not the page's.
  assert.deepEqual(errors.filter((e) => !/net::ERR_(CONNECTION|INCOMPLETE|EMPTY)/.test(e)), []);
});

test('asks for the token', async () => {
  const token = 'a-token-that-nobody-guesses';
  writeFileSync(`${work}/token`, `${token}\n`, { mode: 0o600 });
  const guarded = await nodes.serve('guarded', '--relay', '--listen', loopback, '--http', '127.0.0.1:0', '--http-token-file', `${work}/token`);
  await page.goto(guarded.http);
  await until('the form', () => page.locator('#token').isVisible());
  assert.deepEqual(await grave(), []);
  await page.locator('#token').fill('a-token-that-is-wrong');
  await page.keyboard.press('Enter');
  await until('the refusal', async () => await text('#status') === 'wrong token');
  await page.locator('#token').fill(token);
  await page.keyboard.press('Enter');
  await status('live');
});
