// Numbers and names for people, and tables whose rows stay while their values change.

const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];

export function bytes(n) {
  let i = 0;
  for (; n >= 1024 && i < units.length - 1; i++) n /= 1024;
  return `${i && n < 100 ? n.toFixed(1) : Math.round(n)} ${units[i]}`;
}

export function span(ms) {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} m ${s % 60} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor(s / 60) % 60} m`;
  return `${Math.floor(s / 86400)} d ${Math.floor(s / 3600) % 24} h`;
}

export const millis = (ms) => (ms === null || ms === undefined ? '–' : `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`);

// short is enough of a peer id to tell it from others: all keys of one kind begin alike.
export const short = (id) => (id.length > 20 ? `…${id.slice(-8)}` : id);

// peer is a cell that shows a short id and has the whole one for those who ask.
export const peer = (id) => ({ text: short(id), title: id });

// fill shows rows in a table: columns are [heading, value of a row, is a number], key tells which row is which.
export function fill(table, columns, rows, key, none) {
  if (!table.tHead) {
    const line = table.createTHead().insertRow();
    for (const [heading, , number] of columns) {
      const th = document.createElement('th');
      th.scope = 'col';
      th.textContent = heading;
      if (number) th.className = 'n';
      line.append(th);
    }
    table.createTBody();
  }
  const body = table.tBodies[0];
  const known = new Map([...body.rows].map((tr) => [tr.dataset.key, tr]));
  const wanted = rows.map((row) => [String(key(row)), row]);
  if (!rows.length) {
    const tr = document.createElement('tr');
    const td = tr.insertCell();
    tr.className = 'none';
    td.colSpan = columns.length;
    td.textContent = none;
    if (!body.querySelector('.none')) body.replaceChildren(tr);
    return;
  }
  const order = wanted.map(([k, row]) => {
    const tr = known.get(k) || document.createElement('tr');
    tr.dataset.key = k;
    columns.forEach(([, value, number], i) => {
      const td = tr.cells[i] || tr.insertCell();
      const v = value(row);
      const text = typeof v === 'object' ? v.text : String(v);
      if (td.textContent !== text) td.textContent = text;
      if (typeof v === 'object') td.title = v.title;
      if (number) td.className = 'n';
    });
    return tr;
  });
  if (order.some((tr, i) => body.rows[i] !== tr) || body.rows.length !== order.length) body.replaceChildren(...order);
}
