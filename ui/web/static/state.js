// Where the reader is: question, filters, document and page, screen. The address bar says the same.

export const NONE = { document: [], collection: [], tag: [], since: '', until: '', scanned: '' };
const SHORT = { document: 'in', collection: 'col', tag: 'tag', since: 'from', until: 'to', scanned: 'scan' };
export const SCREENS = ['search', 'compare', 'library'];

export const state = read();
const listeners = {};

export function on(name, listener) {
  (listeners[name] ??= new Set()).add(listener);
}

export function tell(name, value) {
  for (const listener of listeners[name] ?? []) listener(value);
}

function read() {
  const given = new URL(location.href).searchParams;
  const filters = Object.fromEntries(Object.entries(NONE).map(([name, none]) =>
    [name, Array.isArray(none) ? given.getAll(SHORT[name]) : given.get(SHORT[name]) ?? '']));
  const screen = given.get('s') ?? '';
  return {
    query: given.get('q') ?? '',
    filters,
    rerank: given.get('rerank') !== 'no',
    doc: given.get('doc') ?? '',
    page: Math.max(1, parseInt(given.get('p') ?? '1', 10) || 1),
    screen: SCREENS.includes(screen) ? screen : 'search',
  };
}

export function address(change = {}) {
  const wanted = { ...state, ...change };
  const place = new URL(location.href);
  for (const name of ['q', 'doc', 'p', 's', 'rerank', ...Object.values(SHORT)]) place.searchParams.delete(name);
  if (wanted.query) place.searchParams.set('q', wanted.query);
  for (const [name, value] of Object.entries(wanted.filters)) {
    for (const one of Array.isArray(value) ? value : [value]) if (one) place.searchParams.append(SHORT[name], one);
  }
  if (!wanted.rerank) place.searchParams.set('rerank', 'no');
  if (wanted.doc) {
    place.searchParams.set('doc', wanted.doc);
    place.searchParams.set('p', wanted.page);
  }
  if (wanted.screen !== 'search') place.searchParams.set('s', wanted.screen);
  return place;
}

// Change where the reader is. push: "back" leads to where she was before.
export function go(change, { push = false } = {}) {
  Object.assign(state, change);
  const place = address();
  if (place.href === location.href) return;
  if (push) history.pushState(null, '', place);
  else history.replaceState(null, '', place);
}

export const filtered = (filters = state.filters) => Object.values(filters).some((value) => value.length > 0);

// What REST is asked for this question.
export const question = (extra = {}) => ({ q: state.query, ...state.filters, rerank: state.rerank ? '' : 'false', ...extra });

window.addEventListener('popstate', () => {
  const before = { ...state };
  Object.assign(state, read());
  tell('moved', before);
});
