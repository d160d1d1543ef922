// Put in front of each component's script. Text only ever becomes text nodes: never innerHTML.

// What the components tell each other: the question, its hits, and how to open a page.
const folio = (window.folioscope ??= { query: '', hits: [], wanted: null, open: null, clear: null, dim: null, move: null });

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) node.setAttribute(name, '');
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child != null && child !== false && child !== ''));
  return node;
}

const count = (n, noun) => `${n.toLocaleString('en')} ${noun}${n === 1 ? '' : 's'}`;

function address({ query, doc, page }) {
  const url = new URL(location.href);
  for (const [name, value] of [['q', query], ['doc', doc], ['p', page]]) {
    if (value) url.searchParams.set(name, value);
    else url.searchParams.delete(name);
  }
  return url;
}

function openPage(target, options = {}) {
  if (folio.open) folio.open(target, options);
  else folio.wanted = [target, options]; // the viewer is not there yet: it looks here when it is
}
