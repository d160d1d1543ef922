// Creates elements. Text always becomes text nodes, never innerHTML.

export function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  set(node, attributes);
  node.append(...visible(children));
  return node;
}

export function draw(tag, attributes = {}, ...children) {
  const node = document.createElementNS('http://www.w3.org/2000/svg', tag);
  set(node, attributes);
  node.append(...visible(children));
  return node;
}

const visible = (children) => children.flat().filter((child) => child != null && child !== false && child !== '');

function set(node, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, '');
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
}

export const number = (n, digits = 0) => n.toLocaleString('en', { maximumFractionDigits: digits, minimumFractionDigits: digits });
export const count = (n, noun) => `${number(n)} ${noun}${n === 1 ? '' : 's'}`;
export const bytes = (n) => (n >= 1e9 ? `${number(n / 1e9, 1)} GB` : n >= 1e6 ? `${number(n / 1e6, 1)} MB` : `${number(n / 1e3)} KB`);

export function duration(seconds) {
  if (seconds < 60) return `${Math.max(1, Math.round(seconds))} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${number(seconds / 3600, 1)} h`;
}

export const day = (iso) => new Date(iso).toLocaleDateString('en-GB', { day: 'numeric', month: 'short', year: 'numeric' });

// Returns a function that finds the named part of a component: <... data-part="name">.
export const parts = (root) => (name) => root.querySelector(`[data-part=${name}]`);

export function debounce(work, ms) {
  let timer;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => work(...values), ms);
  };
}

// Shows a message at the foot of the page, with at most one action. It disappears after `seconds`.
export function toast(text, { action = '', act = null, seconds = 5 } = {}) {
  const box = document.querySelector('#folio-toasts') ?? (document.querySelector('.gradio-container') ?? document.body).appendChild(make('div', { id: 'folio-toasts', role: 'status', 'aria-live': 'polite' }));
  const note = make('div', { class: 'folio-toast', 'data-testid': 'toast' }, make('span', {}, text));
  const end = () => note.remove();
  if (action) note.append(make('button', { type: 'button', class: 'button small', onclick: () => { end(); act(); } }, action));
  note.append(make('button', { type: 'button', class: 'icon quiet', 'aria-label': 'Dismiss', onclick: end }, '✕'));
  box.append(note);
  setTimeout(end, seconds * 1000);
  return end;
}
