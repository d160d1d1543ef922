// The Library screen: the files being added, and the documents, which can be searched, sorted, selected, edited, removed and restored.

import { get, send } from './api.js';
import { bytes, count, day, debounce, make, number, parts, toast } from './dom.js';
import { showScreen } from './header.js';
import { act, draw as drawJobs, fetchJobs, mountJobs } from './jobs.js';
import { library, refresh } from './library-state.js';
import { address, go, on, state, tell } from './state.js';
import { add, dropped, forgetRejected, onUpload } from './upload.js';
import { open, shut } from './viewer.js';

const PAGE = 100;
const MOST = 1000; // documents in one response
let root;
let part;
let listed = { documents: [], total: 0, pages: 0 };
let shownRows = PAGE;
let chosen = new Set();
let editing = [];
let fetchedAt = 0; // when the jobs were last fetched because of an upload
let latest = 0; // number of the latest request: only its answer is drawn
let drawn = '';

export function mount(element) {
  root = element.querySelector('.library');
  part = parts(root);
  mountJobs(part, list);
  onUpload(({ ended }) => {
    drawJobs();
    if (!ended && Date.now() - fetchedAt < 1000) return;
    fetchedAt = Date.now();
    fetchJobs();
  });
  root.addEventListener('click', onClick);
  const drop = part('drop');
  drop.addEventListener('dragover', (event) => { event.preventDefault(); drop.classList.add('over'); });
  drop.addEventListener('dragleave', () => drop.classList.remove('over'));
  drop.addEventListener('drop', async (event) => {
    event.preventDefault();
    drop.classList.remove('over');
    add(await dropped(event.dataTransfer.items));
  });
  part('files').addEventListener('change', (event) => {
    add([...event.target.files]);
    event.target.value = '';
  });
  part('find').addEventListener('input', debounce(() => { shownRows = PAGE; list(); }, 150));
  part('sort').addEventListener('change', list);
  part('all').addEventListener('change', (event) => { chosen = event.target.checked ? new Set(listed.documents.map((d) => d.doc_id)) : new Set(); drawList(); });
  part('documents').addEventListener('change', (event) => {
    const { choose } = event.target.dataset;
    if (choose && event.target.checked) chosen.add(choose);
    else chosen.delete(choose);
    drawList();
  });
  part('edit-form').addEventListener('submit', (event) => { event.preventDefault(); save(); });
  part('index').addEventListener('toggle', () => part('index').open && drawIndex());
  start();
}

async function start() {
  drawLibrary();
  if (library.state === 'ready') {
    await list();
    fetchJobs();
  }
}

async function list() {
  if (!part) return;
  const request = ++latest;
  const sort = part('sort').value;
  const parameters = { find: part('find').value.trim(), sort, descending: sort !== 'name' };
  let answer = { documents: [], total: 0, pages: 0 };
  try {
    do {
      const more = await get('documents', { ...parameters, start: answer.documents.length, count: Math.min(MOST, shownRows - answer.documents.length) });
      answer = { ...more, documents: [...answer.documents, ...more.documents] };
      if (request !== latest) return; // a newer request has been sent meanwhile
      if (!more.documents.length) break;
    } while (answer.documents.length < Math.min(shownRows, answer.total));
  } catch (error) {
    if (error.status !== 503 && error.status !== 0) toast(error.message);
    return;
  }
  listed = answer;
  root.dataset.state = 'ready';
  drawList();
}

function drawLibrary() {
  if (!part) return;
  part('samples').hidden = library.state !== 'ready' || library.documents > 0 || library.busy || !library.samples;
  part('samples').textContent = `Try the ${library.samples} sample documents`;
  part('folders').hidden = !library.folders;
  part('collections').replaceChildren(...Object.keys(library.collections).map((value) => make('option', { value })));
}

function drawList() {
  const { documents, total, pages } = listed;
  for (const id of chosen) if (!documents.some((d) => d.doc_id === id)) chosen.delete(id);
  const text = JSON.stringify([listed, [...chosen], library.documents]);
  if (text === drawn) return;
  drawn = text;
  const finding = part('find').value.trim();
  part('total').textContent = !library.documents ? 'Documents' : finding ? `${count(total, 'document')} found` : `${count(total, 'document')}, ${count(pages, 'page')}`;
  part('list-tools').hidden = library.documents < 2;
  part('all').checked = chosen.size > 0 && chosen.size === documents.length;
  part('chosen').textContent = chosen.size ? `${number(chosen.size)} selected` : 'Select all';
  part('chosen-acts').hidden = !chosen.size;
  const focused = document.activeElement?.dataset?.choose;
  part('documents').replaceChildren(...documents.map(drawDocument));
  if (focused) part('documents').querySelector(`[data-choose="${CSS.escape(focused)}"]`)?.focus();
  if (!documents.length) part('documents').append(make('li', { class: 'none' }, finding ? 'No document has this in its name, title or tags.' : 'No documents yet. Each document you add can be searched as soon as it has been read.'));
  root.querySelector('[data-act=more-documents]').hidden = documents.length >= total;
}

function drawDocument(d) {
  const scanned = d.scanned_pages ? (d.scanned_pages === d.pages ? ' · all scanned' : ` · ${number(d.scanned_pages)} scanned`) : '';
  const title = d.title && d.title.toLowerCase() !== d.name.toLowerCase() ? d.title : '';
  return make('li', { class: d.leaving ? 'document leaving' : 'document', 'data-testid': 'document', 'data-doc': d.doc_id },
    !d.leaving && library.documents > 1 && make('input', { type: 'checkbox', 'data-choose': d.doc_id, checked: chosen.has(d.doc_id), 'aria-label': `Select ${d.name}` }),
    make('a', { class: 'document-open', href: address({ query: '', doc: d.doc_id, page: 1, screen: 'search' }).search, 'data-open': d.doc_id },
      make('span', { class: 'mini' }, make('img', { src: d.thumb, alt: '', loading: 'lazy' })),
      make('span', { class: 'document-text' }, make('span', { class: 'name' }, d.name), title && make('span', { class: 'document-title' }, title),
        make('span', { class: 'where' }, `${count(d.pages, 'page')}${scanned}${d.date ? ` · ${d.date}` : ''} · added ${day(d.added_at)}`),
        (d.tags.length > 0 || d.collection !== 'default') && make('span', { class: 'where' }, d.collection !== 'default' && make('span', { class: 'tag collection' }, d.collection), ...d.tags.map((tag) => make('span', { class: 'tag' }, `#${tag}`))),
        d.left_out && make('span', { class: 'warning' }, `could not be rendered: page ${d.left_out}`),
        !d.original && make('span', { class: 'warning' }, 'its file was moved or deleted; its pages can still be searched'))),
    d.leaving ? make('span', { class: 'row-acts' }, make('span', { class: 'where' }, 'removing…'), make('button', { type: 'button', class: 'button small', 'data-undo': d.doc_id }, 'Undo'))
      : make('span', { class: 'row-acts' },
        make('button', { type: 'button', class: 'button small quiet', 'data-edit': d.doc_id, 'aria-label': `Edit ${d.name}` }, 'Edit'),
        make('button', { type: 'button', class: 'icon quiet', 'data-remove': d.doc_id, 'aria-label': `Remove ${d.name}`, title: 'Remove' }, '✕')));
}

async function remove(ids) {
  const pages = listed.documents.filter((d) => ids.includes(d.doc_id)).reduce((sum, d) => sum + d.pages, 0);
  if (!(await act('documents/remove', { doc_ids: ids }))) return;
  chosen = new Set();
  await list();
  if (ids.includes(state.doc)) { go({ doc: '' }); shut(); }
  tell('removed', ids);
  const gone = ids.length === 1 ? listed.documents.find((d) => d.doc_id === ids[0])?.name ?? 'the document' : count(ids.length, 'document');
  toast(`Removing ${gone} (${count(pages, 'page')}).`, { action: 'Undo', act: () => undo(ids), seconds: library.undo_s });
}

async function undo(ids) {
  await act('documents/undo', { doc_ids: ids });
  await list();
  refresh();
}

function edit(ids) {
  editing = ids;
  const first = listed.documents.find((d) => d.doc_id === ids[0]);
  const form = part('edit-form');
  const several = ids.length > 1;
  part('edit-title').textContent = several ? `Edit ${count(ids.length, 'document')}` : 'Edit document';
  for (const name of ['name', 'title', 'collection', 'tags', 'date']) {
    form.elements[name].closest('label').hidden = several && !['collection', 'tags'].includes(name);
    form.elements[name].disabled = several && !['collection', 'tags'].includes(name);
    form.elements[name].value = several ? '' : name === 'tags' ? first.tags.join(', ') : first[name];
  }
  form.elements.collection.required = !several;
  form.elements.collection.placeholder = several ? 'leave unchanged' : '';
  part('edit-problem').hidden = true;
  part('edit').showModal();
}

async function save() {
  const { name, title, collection, tags, date } = part('edit-form').elements;
  const entered = tags.value.split(',').map((tag) => tag.trim()).filter(Boolean);
  try {
    for (const id of editing) {
      const before = listed.documents.find((d) => d.doc_id === id);
      const several = editing.length > 1;
      await send('PATCH', `documents/${id}`, {
        ...(collection.value.trim() ? { collection: collection.value.trim() } : {}), tags: several ? [...new Set([...before.tags, ...entered])] : entered,
        ...(several ? {} : { name: name.value.trim(), title: title.value.trim(), date: date.value.trim() }),
      });
    }
  } catch (error) {
    part('edit-problem').textContent = error.message;
    part('edit-problem').hidden = false;
    return;
  }
  part('edit').close();
  await list();
  refresh();
}

async function drawIndex() {
  const body = part('index-body');
  try {
    const index = await get('index');
    const row = (name, value) => [make('dt', {}, name), make('dd', {}, value)];
    const disk = Object.entries(index.disk).filter(([, n]) => n);
    body.replaceChildren(make('dl', { class: 'facts' },
      ...row('Pages', `${number(index.pages)} in ${count(index.documents, 'document')}`), ...row('Encoder', index.encoder), ...row('Search index', index.recall), ...row('Reranker', index.reranker || 'none'),
      ...row('Disk', disk.length ? `${bytes(disk.reduce((sum, [, n]) => sum + n, 0))} (${disk.map(([name, n]) => `${name} ${bytes(n)}`).join(', ')})` : 'in an object store'),
      ...index.tables.flatMap(([name, facts]) => row(name, Object.entries(facts).map(([what, value]) => `${what} ${typeof value === 'number' ? number(value) : value}`).join(' · ')))),
    make('p', { class: 'acts' }, make('button', { type: 'button', class: 'button small', 'data-care': 'compact' }, 'Compact'), make('button', { type: 'button', class: 'button small', 'data-care': 'verify' }, 'Verify')));
  } catch (error) {
    body.replaceChildren(make('p', {}, error.message));
  }
}

async function browse(id) {
  const box = part('browser');
  box.hidden = false;
  try {
    const listing = await get('folders', { id });
    const ingest = (folder, name) => make('button', { type: 'button', class: 'button small', 'data-ingest': folder, 'aria-label': `Add all documents in ${name}` }, 'Add all');
    box.replaceChildren(make('div', { class: 'row-head' }, make('h3', {}, listing.name || 'Folders on the server'),
      make('span', { class: 'row-acts' }, listing.id && make('button', { type: 'button', class: 'button small', 'data-browse': listing.parent }, 'Up'), listing.id && ingest(listing.id, listing.name), make('button', { type: 'button', class: 'icon quiet', 'data-act': 'folders-close', 'aria-label': 'Close' }, '✕'))),
    listing.note ? make('p', { class: 'hint' }, listing.note) : '',
    make('ul', { class: 'folders' }, ...listing.folders.map((folder) => make('li', {}, make('button', { type: 'button', class: 'link', 'data-browse': folder.id }, folder.name), make('small', {}, folder.documents ? count(folder.documents, 'document') : ''), ingest(folder.id, folder.name)))),
    listing.id ? make('p', { class: 'hint' }, `${count(listing.documents, 'document')} directly in this folder.`) : '');
  } catch (error) {
    box.replaceChildren(make('p', { class: 'problem' }, error.message));
  }
}

async function onClick(event) {
  const button = event.target.closest('button, a');
  if (!button || event.ctrlKey || event.metaKey) return;
  const { act: named, remove: gone, undo: back, edit: changed, open: page, job, what, care, browse: folder, ingest } = button.dataset;
  if (page) {
    event.preventDefault();
    const before = { ...state };
    go({ query: '', doc: page, page: 1, screen: 'search' }, { push: true });
    showScreen('search');
    tell('moved', before);
    tell('screen', 'search');
    open({ doc: page, page: 1 }, { user: true });
  }
  if (gone) remove([gone]);
  if (back) undo([back]);
  if (changed) edit([changed]);
  if (job) act(`jobs/${job}/${what}`);
  if (folder !== undefined) browse(folder);
  if (ingest && (await act('folders/ingest', { id: ingest }))) part('browser').hidden = true;
  if (care) {
    try {
      toast((await send('POST', `index/${care}`)).message);
      fetchJobs();
    } catch (error) {
      toast(error.message);
    }
  }
  ({
    samples: () => act('samples').then(refresh),
    clear: () => { forgetRejected(); act('jobs/clear'); },
    'cancel-all': () => act('jobs/cancel'),
    'retry-all': () => act('jobs/retry'),
    folders: () => browse(''),
    'folders-close': () => { part('browser').hidden = true; },
    'remove-chosen': () => remove([...chosen]),
    'reread-chosen': () => act('documents/reread', { doc_ids: [...chosen] }),
    'tag-chosen': () => edit([...chosen]),
    'edit-close': () => part('edit').close(),
    'more-documents': () => { shownRows += PAGE; list(); },
  })[named]?.();
}

let previousState = '';
on('library', () => {
  drawLibrary();
  if (part && library.state === 'ready' && previousState !== 'ready') start();
  previousState = library.state;
});
on('screen', (screen) => screen === 'library' && part && start());
