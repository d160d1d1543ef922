// The question box and its filters. Each change of a filter searches again; the chips show which filters are set.

import { get } from './api.js';
import { debounce, make, number, parts } from './dom.js';
import { library } from './library-state.js';
import { ask, search } from './search.js';
import { NONE, filtered, go, on, state } from './state.js';

let root;
let part;
const names = new Map(); // doc_id -> name, of the documents in the chips

const box = () => part('question') ?? root.querySelector('#question');

export function mount(element) {
  root = element.querySelector('.ask');
  part = parts(root);
  root.addEventListener('submit', (event) => {
    event.preventDefault();
    submit();
  });
  root.addEventListener('click', onClick);
  root.addEventListener('change', onChange);
  box().addEventListener('input', () => { clearButton().hidden = !box().value; });
  part('documents-find').addEventListener('input', debounce(listDocuments, 150));
  part('documents-pop').addEventListener('toggle', () => part('documents-pop').open && listDocuments());
  part('groups-pop').addEventListener('toggle', () => part('groups-pop').open && listGroups());
  restore();
  if (state.query) search();
}

const clearButton = () => root.querySelector('[data-act=clear]');

export function focusQuestion() {
  box()?.focus();
  box()?.select();
}

export function submit(question = box().value) {
  closePops();
  if (question !== box().value) box().value = question;
  clearButton().hidden = !question;
  const query = question.trim();
  if (query !== state.query || !query) return ask({ query });
  return search(); // the same question again: the library may have changed
}

function restore() {
  if (document.activeElement !== box() || state.query) box().value = state.query; // keep what the reader is typing
  clearButton().hidden = !box().value;
  part('rerank').checked = state.rerank;
  restoreFilters();
}

function restoreFilters() {
  for (const name of ['since', 'until', 'scanned']) part(name).value = state.filters[name];
  drawChips();
}

function filter(change) {
  ask({ filters: { ...state.filters, ...change } });
  restoreFilters();
}

export const unfilter = () => filter(structuredClone(NONE));

function onChange(event) {
  const { value, dataset, validity } = event.target;
  if (event.target === part('scanned')) filter({ scanned: value });
  if (event.target === part('rerank')) ask({ rerank: event.target.checked });
  if (['since', 'until'].includes(dataset.part)) {
    part('date-problem').hidden = validity.valid;
    if (validity.valid) filter({ [dataset.part]: value.trim() });
  }
  if (dataset.choose) {
    const chosen = new Set(state.filters[dataset.choose]);
    if (event.target.checked) chosen.add(value);
    else chosen.delete(value);
    names.set(value, dataset.name);
    filter({ [dataset.choose]: [...chosen] });
  }
}

function onClick(event) {
  const button = event.target.closest('button');
  if (!button) return;
  if (button.dataset.act === 'clear') {
    box().value = '';
    clearButton().hidden = true;
    box().focus();
  }
  if (button.dataset.act === 'unfilter') unfilter();
  if (button.dataset.drop) {
    const current = state.filters[button.dataset.drop];
    filter({ [button.dataset.drop]: Array.isArray(current) ? current.filter((value) => value !== button.dataset.value) : '' });
  }
}

const choice = (name, value, label, more) => make('label', { class: 'choice' },
  make('input', { type: 'checkbox', 'data-choose': name, value, 'data-name': label, checked: state.filters[name].includes(value) }),
  make('span', {}, label), make('small', {}, more));

async function listDocuments() {
  const find = part('documents-find').value;
  let answer;
  try {
    answer = await get('documents', { find, sort: 'name', descending: false, count: 60 });
  } catch (error) {
    return part('documents').replaceChildren(make('p', { class: 'hint' }, error.message));
  }
  if (find !== part('documents-find').value) return; // the answer to an earlier text
  const { documents, total } = answer;
  part('documents').replaceChildren(...documents.map((d) => choice('document', d.doc_id, d.name, `${d.pages} p.`)));
  if (!total) part('documents').append(make('p', { class: 'hint' }, 'No document name contains this text.'));
  if (total > documents.length) part('documents').append(make('p', { class: 'hint' }, `and ${number(total - documents.length)} more: type part of the name`));
}

function listGroups() {
  const group = (name, title, values) => Object.keys(values).length > 0 && [make('h3', {}, title),
    ...Object.entries(values).map(([value, n]) => choice(name, value, value, String(n)))];
  part('groups').replaceChildren(...[group('collection', 'Collections', library.collections), group('tag', 'Tags', library.tags)].flat().filter(Boolean));
}

function drawChips() {
  const { filters } = state;
  const chip = (name, value, label) => make('button', { type: 'button', class: 'filter-chip', 'data-drop': name, 'data-value': value, 'data-testid': 'filter-chip',
    'aria-label': `Remove the filter ${label}` }, make('span', {}, label), ' ✕');
  part('chips').replaceChildren(
    ...filters.document.map((id) => chip('document', id, names.get(id) ?? id)),
    ...filters.collection.map((value) => chip('collection', value, `in ${value}`)),
    ...filters.tag.map((value) => chip('tag', value, `#${value}`)),
    ...(filters.since ? [chip('since', filters.since, `from ${filters.since}`)] : []),
    ...(filters.until ? [chip('until', filters.until, `to ${filters.until}`)] : []),
    ...(filters.scanned ? [chip('scanned', filters.scanned, filters.scanned === 'true' ? 'scanned' : 'digital')] : []),
    ...(filtered() ? [make('button', { type: 'button', class: 'link', 'data-act': 'unfilter' }, 'Clear filters')] : []),
  );
  for (const id of filters.document.filter((id) => !names.has(id))) nameOf(id);
}

async function nameOf(id) {
  names.set(id, id);
  try {
    names.set(id, (await get(`documents/${encodeURIComponent(id)}`)).name);
    drawChips();
  } catch { /* the document no longer exists: the chip keeps its id and can still be removed */ }
}

export function onlyIn(doc, name) {
  names.set(doc, name);
  filter({ document: [doc] });
}

function closePops(except = null) {
  for (const pop of root.querySelectorAll('details[open]')) if (pop !== except) pop.open = false;
}

document.addEventListener('keydown', (event) => {
  const pop = event.key === 'Escape' && document.querySelector('.pop[open]');
  if (!pop) return;
  pop.open = false;
  pop.querySelector('summary').focus();
  event.stopPropagation();
}, { capture: true });
document.addEventListener('click', (event) => root && closePops(event.target.closest?.('.pop')));
on('library', () => {
  if (!root) return;
  const groups = Object.keys(library.collections).length + Object.keys(library.tags).length;
  part('groups-pop').hidden = groups < 2;
  part('rerank-label').hidden = library.state === 'ready' && !library.reranks;
});
on('moved', (before) => {
  if (!root) return;
  const asks = ({ query, filters, rerank }) => JSON.stringify([query, filters, rerank]);
  if (document.activeElement === box()) box().blur();
  box().value = state.query;
  restore();
  if (asks(before) !== asks(state)) search();
});
