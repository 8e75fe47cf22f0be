// Nodes on loopback for the browser to look at.
import { spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { setTimeout as wait } from 'node:timers/promises';

// until waits for something to be true, and says what was awaited if it never is.
export async function until(what, test, seconds = 30) {
  for (const end = Date.now() + seconds * 1000; Date.now() < end; await wait(100)) {
    const got = await test();
    if (got) return got;
  }
  throw new Error(`not within ${seconds} s: ${what}`);
}

export async function freePorts() {
  const tcp = createServer().listen(0, '127.0.0.1');
  const udp = createSocket('udp4');
  await new Promise((done) => { udp.bind(0, '127.0.0.1', done); });
  const ports = { http: tcp.address().port, quic: udp.address().port };
  await new Promise((done) => { tcp.close(done); });
  await new Promise((done) => { udp.close(done); });
  return ports;
}

export class Nodes {
  constructor(work) {
    this.work = work;
    this.running = new Set();
  }

  // run starts dibber; what it says is shown when something fails.
  run(...args) {
    const p = spawn(`${this.work}/dibber`, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    p.said = '';
    for (const s of [p.stdout, p.stderr]) s.on('data', (d) => { p.said += d; });
    p.ended = new Promise((done) => { p.on('exit', done); });
    this.running.add(p);
    p.ended.then(() => this.running.delete(p));
    return p;
  }

  // serve starts a node, waits until it is ready, and tells its ready event.
  async serve(name, ...args) {
    const file = `${this.work}/${name}.ready`;
    rmSync(file, { force: true });
    const p = this.run('serve', '--state-dir', `${this.work}/${name}`, '--ready-file', file, '--drain', '1s', ...args);
    await until(`${name} is ready: ${p.said}`, () => existsSync(file) || p.exitCode !== null);
    if (!existsSync(file)) throw new Error(`${name} did not start: ${p.said}`);
    return { ...JSON.parse(readFileSync(file, 'utf8')), process: p };
  }

  async stop(p) {
    p.kill('SIGTERM');
    await p.ended;
  }

  async end() {
    await Promise.all([...this.running].map((p) => this.stop(p)));
  }
}
