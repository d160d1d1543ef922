// What the reader sees: question, filters, document, page and screen. The address bar holds the same state.

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
  const parameters = new URL(location.href).searchParams;
  const filters = Object.fromEntries(Object.entries(NONE).map(([name, none]) =>
    [name, Array.isArray(none) ? parameters.getAll(SHORT[name]) : parameters.get(SHORT[name]) ?? '']));
  const screen = parameters.get('s') ?? '';
  return {
    query: parameters.get('q') ?? '',
    filters,
    rerank: parameters.get('rerank') !== 'no',
    doc: parameters.get('doc') ?? '',
    page: Math.max(1, parseInt(parameters.get('p') ?? '1', 10) || 1),
    screen: SCREENS.includes(screen) ? screen : 'search',
  };
}

export function address(change = {}) {
  const target = { ...state, ...change };
  const place = new URL(location.href);
  for (const name of ['q', 'doc', 'p', 's', 'rerank', ...Object.values(SHORT)]) place.searchParams.delete(name);
  if (target.query) place.searchParams.set('q', target.query);
  for (const [name, value] of Object.entries(target.filters)) {
    for (const item of Array.isArray(value) ? value : [value]) if (item) place.searchParams.append(SHORT[name], item);
  }
  if (!target.rerank) place.searchParams.set('rerank', 'no');
  if (target.doc) {
    place.searchParams.set('doc', target.doc);
    place.searchParams.set('p', target.page);
  }
  if (target.screen !== 'search') place.searchParams.set('s', target.screen);
  return place;
}

// Changes the state and the address. push: adds a step to the history, so that "back" returns to the state before.
export function go(change, { push = false } = {}) {
  Object.assign(state, change);
  const place = address();
  if (place.href === location.href) return;
  if (push) history.pushState(null, '', place);
  else history.replaceState(null, '', place);
}

export const filtered = (filters = state.filters) => Object.values(filters).some((value) => value.length > 0);

// The REST parameters of this question.
export const question = (extra = {}) => ({ q: state.query, ...state.filters, rerank: state.rerank ? '' : 'false', ...extra });

window.addEventListener('popstate', () => {
  const before = { ...state };
  Object.assign(state, read());
  tell('moved', before);
});
