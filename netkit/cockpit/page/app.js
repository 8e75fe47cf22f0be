// Follows the node by its stream of events and shows what it says.
import { bytes, fill, millis, peer, span } from './tables.js';
import { curve, graph, inMillis, perSecond, rates, trips } from './draw.js';

const history = 600; // samples, one a second
const at = (id) => document.getElementById(id);
const store = window.sessionStorage;
let samples = [];
let following = new AbortController();

function status(state, text) {
  const e = at('status');
  e.dataset.state = state;
  if (e.textContent !== text) e.textContent = text; // said aloud only when it changes
}

// follow reads the stream until it ends.
async function follow(signal) {
  const headers = {};
  if (store.getItem('token')) headers.Authorization = `Bearer ${store.getItem('token')}`;
  const answer = await fetch(`events${at('redact').checked ? '?redact=1' : ''}`, { headers, signal, cache: 'no-store' });
  if (answer.status === 401) {
    ask(store.getItem('token') !== null);
    return false;
  }
  if (!answer.ok) throw new Error(`the node answered ${answer.status}`);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = ''; ;) {
    const { value, done } = await reader.read();
    if (done) return true;
    const parts = (rest + value).split('\n\n');
    rest = parts.pop();
    for (const part of parts) take(part);
  }
}

// take reads one event.
function take(text) {
  const fields = Object.fromEntries(text.split('\n').map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 2)]));
  const data = JSON.parse(fields.data);
  if (fields.event === 'history') samples = data || [];
  if (fields.event !== 'state') return;
  samples.push(data.sample);
  samples.splice(0, samples.length - history);
  const waits = data.node.draining ? 'draining' : data.rendezvous?.registry_away ? 'registry away' : '';
  status(waits ? 'waiting' : 'live', waits || 'live');
  at('sign').hidden = true;
  at('shown').hidden = false;
  if (!at('pause').checked) show(data);
}

function ask(again) {
  store.removeItem('token');
  status('waiting', again ? 'wrong token' : 'needs a token');
  at('shown').hidden = true;
  at('sign').hidden = false;
  at('token').focus();
}

// run follows, and begins anew when the node was away: after half a second, then more and more, up to five.
async function run() {
  following.abort();
  const own = new AbortController();
  following = own;
  for (let wait = 500; !own.signal.aborted; wait = Math.min(5000, wait * 1.5)) {
    try {
      if (!await follow(own.signal)) return;
      wait = 500;
    } catch (e) {
      if (own.signal.aborted) return;
    }
    status('lost', 'connection lost, trying again');
    await new Promise((done) => { setTimeout(done, wait); });
  }
}

function tiles(list) {
  const dl = at('tiles');
  if (dl.children.length !== list.length) {
    dl.replaceChildren(...list.map(() => {
      const div = document.createElement('div');
      div.append(document.createElement('dt'), document.createElement('dd'));
      return div;
    }));
  }
  list.forEach(([name, value, of], i) => {
    const [dt, dd] = dl.children[i].children;
    dt.textContent = name;
    const small = document.createElement('small');
    small.textContent = of === undefined ? '' : ` of ${of}`;
    dd.replaceChildren(String(value), small);
  });
}

const clock = (text) => new Date(text).toLocaleTimeString();
const how = {
  offer: 'offer carried by this relay', circuit: 'circuit given up, both still here', own: 'punch of this node',
};

function show(s) {
  const n = s.node;
  document.title = `dibber ${n.roles.join(', ')}`;
  at('node').textContent = `${n.peer}, version ${n.version}: ${n.roles.join(', ') || 'no roles'}${n.reachability && n.reachability !== 'unknown' ? `; ${n.reachability}` : ''}`;
  const list = [['up for', span(Date.parse(s.at) - Date.parse(n.started))], ['connections', n.connections, n.connections_limit], ['peers', n.peers]];
  if (s.relay) {
    list.push(['reservations', s.relay.reservations, s.relay.reservations_limit], ['circuits', s.relay.circuits, s.relay.circuits_limit], ['relayed', bytes(s.relay.bytes)]);
  }
  if (s.rendezvous) list.push(['registrations', s.rendezvous.registrations, s.rendezvous.registrations_limit], ['namespaces', s.rendezvous.namespaces]);
  tiles(list);
  graph(at('graph'), s);
  curve(at('rate'), samples, rates, perSecond, 'Relayed a second');
  curve(at('rtt'), samples, trips, inMillis, 'Median of round trips');

  const relay = s.relay || { held: [], open: [] };
  fill(at('circuits'), [
    ['circuit', (c) => c.id, true], ['from', (c) => peer(c.from)], ['to', (c) => peer(c.to)],
    ['sent', (c) => bytes(c.sent), true], ['a second', (c) => bytes(c.sent_rate), true],
    ['received', (c) => bytes(c.received), true], ['a second', (c) => bytes(c.received_rate), true],
    ['age', (c) => span(c.age_ms), true], ['left', (c) => (c.left_ms === null ? 'no limit' : span(c.left_ms)), true], ['over', (c) => c.transports],
  ], relay.open, (c) => c.id, s.relay ? 'No circuit is open.' : 'This node does not relay.');
  fill(at('reservations'), [
    ['peer', (h) => peer(h.peer)], ['expires', (h) => clock(h.expires)], ['circuits', (h) => h.circuits, true], ['over', (h) => h.transport], ['from', (h) => h.addr || '–'],
  ], relay.held, (h) => h.peer, s.relay ? 'Nobody has reserved.' : 'This node does not relay.');
  fill(at('namespaces'), [
    ['namespace', (c) => c.namespace], ['registrations', (c) => c.registrations, true],
  ], (s.rendezvous && s.rendezvous.crowds) || [], (c) => c.namespace, s.rendezvous ? 'Nobody is registered.' : 'This node is no rendezvous point.');
  const reasons = Object.entries({ ...relay.refused, ...(s.rendezvous ? s.rendezvous.refused : {}) });
  at('reasons').textContent = reasons.length ? `Since the start: ${reasons.map(([why, times]) => `${why} ${times}`).join(', ')}.` : '';
  fill(at('refusals'), [
    ['at', (r) => clock(r.at)], ['role', (r) => r.role], ['reason', (r) => r.reason + (r.detail ? `: ${r.detail}` : '')], ['times', (r) => r.times, true], ['peer', (r) => peer(r.peer)],
  ], s.refusals || [], (r) => `${r.role} ${r.peer} ${r.reason} ${r.at}`, 'Nothing was refused.');
  fill(at('meetings'), [
    ['at', (m) => clock(m.at)], ['from', (m) => peer(m.from)], ['to', (m) => peer(m.to)], ['seen as', (m) => how[m.how]],
    ['outcome', (m) => m.outcome + (m.reason ? `: ${m.reason}` : '')], ['took', (m) => millis(m.took_ms), true],
  ], s.meetings || [], (m) => `${m.at} ${m.from} ${m.to}`, 'No hole punch was seen.');
  fill(at('peers'), [
    ['peer', (p) => peer(p.peer)], ['path', (p) => p.path], ['over', (p) => p.transport], ['direction', (p) => p.direction], ['round trip', (p) => millis(p.rtt_ms), true],
    ['connections', (p) => p.connections, true], ['streams', (p) => p.streams, true], ['age', (p) => span(p.age_ms), true], ['agent', (p) => p.agent || '–'], ['address', (p) => p.addr || '–'],
  ], s.peers, (p) => p.peer, 'Nobody is connected.');
}

at('theme').addEventListener('change', (e) => {
  if (e.target.value) document.documentElement.dataset.theme = e.target.value;
  else delete document.documentElement.dataset.theme;
});
at('redact').addEventListener('change', run);
at('sign').addEventListener('submit', (e) => {
  e.preventDefault();
  store.setItem('token', at('token').value.trim());
  at('token').value = '';
  run();
});
run();
