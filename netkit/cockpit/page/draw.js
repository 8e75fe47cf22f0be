// The graph of peers, and the curves.
import { bytes, millis, short, span } from './tables.js';

const drawn = 40; // peers of the graph; with more of them nobody sees anything

function make(name, attributes, text) {
  const e = document.createElementNS('http://www.w3.org/2000/svg', name);
  for (const [k, v] of Object.entries(attributes)) e.setAttribute(k, v);
  if (text !== undefined) e.textContent = text;
  return e;
}

// graph draws the node in the middle and its peers around it. Those with circuits come first where there are too many.
export function graph(svg, state) {
  const circuits = state.relay ? state.relay.open : [];
  const held = new Set(state.relay ? state.relay.held.map((h) => h.peer) : []);
  const ends = new Set(circuits.flatMap((c) => [c.from, c.to]));
  const paths = new Map(state.peers.map((p) => [p.peer, p.path]));
  for (const id of ends) if (!paths.has(id)) paths.set(id, 'direct');
  const ids = [...paths.keys()].sort((a, b) => ends.has(b) - ends.has(a) || held.has(b) - held.has(a)).slice(0, drawn).sort();
  const [w, h] = [640, 420];
  const place = new Map(ids.map((id, i) => {
    const turn = (2 * Math.PI * i) / ids.length - Math.PI / 2;
    return [id, [w / 2 + Math.cos(turn) * 225, h / 2 + Math.sin(turn) * 165]];
  }));
  const lines = [];
  const dots = [];
  for (const [id, [x, y]] of place) {
    lines.push(make('line', { class: `line ${paths.get(id)}`, x1: w / 2, y1: h / 2, x2: x, y2: y }));
    const dot = make('circle', { class: held.has(id) ? 'dot held' : 'dot', cx: x, cy: y, r: 8 });
    dot.append(make('title', {}, id));
    dots.push(dot);
    if (ids.length <= 24) {
      const right = x > w / 2 + 5;
      const middle = Math.abs(x - w / 2) <= 5;
      dots.push(make('text', { x: middle ? x : x + (right ? 13 : -13), y: middle ? y + (y > h / 2 ? 24 : -14) : y + 4, 'text-anchor': middle ? 'middle' : right ? 'start' : 'end' }, short(id)));
    }
  }
  for (const c of circuits) {
    const [a, b] = [place.get(c.from), place.get(c.to)];
    if (!a || !b) continue;
    const rate = c.sent_rate + c.received_rate;
    const arc = make('path', {
      class: rate > 0 ? 'arc busy' : 'arc', 'stroke-width': (2 + Math.min(7, Math.log10(1 + rate))).toFixed(1),
      d: `M ${a[0]} ${a[1]} Q ${w / 2} ${h / 2} ${b[0]} ${b[1]}`,
    });
    arc.append(make('title', {}, `circuit ${c.id}: ${bytes(rate)} a second`));
    lines.push(arc);
  }
  const self = make('circle', { class: 'self', cx: w / 2, cy: h / 2, r: 15 });
  self.append(make('title', {}, state.node.peer));
  svg.replaceChildren(...lines, self, ...dots);
  svg.setAttribute('aria-label', `This node with ${state.node.peers} peers, ${held.size} of them with a reservation shown, and ${circuits.length} circuits; the tables below name them.`);
  svg.dataset.arcs = circuits.length;
}

// curve draws values of samples over time. Each line is [class, value of a sample]; null leaves a gap.
export function curve(svg, samples, lines, unit, what) {
  const [w, h, left, bottom, top] = [640, 170, 78, 22, 10];
  svg.setAttribute('class', 'plot');
  const times = samples.map((s) => Date.parse(s.at));
  const now = times.at(-1) || 0;
  const wide = Math.min(600000, Math.max(60000, now - times[0])) || 60000;
  const x = (t) => left + (w - left) * (1 - (now - t) / wide);
  let most = 0;
  for (const [, value] of lines) for (const s of samples) most = Math.max(most, value(s) || 0);
  const y = (v) => h - bottom - (h - bottom - top) * (most ? v / most : 0);
  const parts = [
    make('line', { class: 'axis', x1: left, y1: h - bottom, x2: w, y2: h - bottom }),
    make('line', { class: 'axis', x1: left, y1: top, x2: w, y2: top }),
    make('text', { x: left - 6, y: top + 4, 'text-anchor': 'end' }, unit(most)),
    make('text', { x: left - 6, y: h - bottom + 4, 'text-anchor': 'end' }, '0'),
    make('text', { x: left, y: h - 6 }, `${span(wide)} ago`),
    make('text', { x: w, y: h - 6, 'text-anchor': 'end' }, 'now'),
  ];
  for (const [name, value] of lines) {
    let d = '';
    let drawing = false;
    samples.forEach((s, i) => {
      const v = value(s);
      if (v === null || v === undefined || x(times[i]) < left) {
        drawing = false;
        return;
      }
      d += `${drawing ? 'L' : 'M'}${x(times[i]).toFixed(1)} ${y(v).toFixed(1)}`;
      drawing = true;
    });
    parts.push(make('path', { class: name, d }));
  }
  svg.replaceChildren(...parts);
  const last = samples.length ? lines[0][1](samples.at(-1)) : null;
  svg.setAttribute('aria-label', `${what}: now ${last === null ? 'unknown' : unit(last)}, at most ${unit(most)}`);
}

export const rates = [['one', (s) => s.rate]];
export const trips = [['one', (s) => s.rtt_ms], ['two', (s) => s.rtt90_ms]];
export const perSecond = (n) => bytes(n);
export const inMillis = (n) => millis(n);
