const root = element.querySelector('.library');
const part = (name) => root.querySelector(`[data-part=${name}]`);
const READABLE = /\.(pdf|png|jpe?g|tiff?|webp|bmp)$/i;
const AT_ONCE = 3; // uploads
const ORDER = ['uploading', 'reading', 'failed', 'queued', 'skipped', 'done'];
const LISTED = 60; // rows of the list of jobs
const uploads = []; // {name, share, message}: files on their way to the server, and those it refused
let asking = ''; // the document whose removal waits for a yes
let drawn = {};

function changed(name, value) {
  const text = JSON.stringify(value);
  const different = drawn[name] !== text;
  drawn[name] = text;
  return different;
}

function draw() {
  const value = props.value || {};
  const jobs = value.jobs || [];
  root.dataset.state = value.jobs ? 'ready' : 'loading';
  const rows = [...jobs, ...uploads.map(uploadRow)];
  const ended = (row) => ['failed', 'skipped', 'done'].includes(row.state);
  rows.sort((a, b) => ORDER.indexOf(a.state) - ORDER.indexOf(b.state) || (ended(a) ? (b.id ?? 0) - (a.id ?? 0) : 0));
  if (changed('jobs', rows)) {
    part('jobs').replaceChildren(...rows.slice(0, LISTED).map(drawJob));
    if (rows.length > LISTED) part('jobs').append(make('li', { class: 'none' }, `and ${count(rows.length - LISTED, 'more file')}`));
    part('progress').hidden = rows.length === 0;
    const waiting = rows.filter((row) => !ended(row)).length;
    part('progress-title').textContent = waiting ? `Adding ${count(waiting, 'file')}` : 'Added';
    root.querySelector('[data-act=clear]').hidden = rows.length === waiting;
  }
  part('samples').hidden = !value.samples || uploads.length > 0;
  part('samples').firstElementChild.textContent = `Try the ${value.samples} samples`;
  part('problem').textContent = value.problem || '';
  part('problem').hidden = !value.problem;
  drawDocuments(value);
}

const uploadRow = ({ name, share, message }) =>
  ({ name, state: message ? 'failed' : 'uploading', share, message: message || '' });

function drawJob(job) {
  const share = job.state === 'uploading' ? job.share : job.pages ? job.page / job.pages : 0;
  const done = make('i');
  if (share) done.style.width = `${Math.round(share * 100)}%`;
  const bar = make('span', { class: share ? 'progress' : 'progress unknown', role: 'progressbar', 'aria-valuemin': 0,
    'aria-valuemax': 100, 'aria-valuenow': share ? Math.round(share * 100) : null, 'aria-label': `Progress of ${job.name}` }, done);
  const said = { uploading: `uploading ${Math.round(share * 100)}%`, queued: 'queued', done: 'done', skipped: 'skipped',
    reading: job.pages ? `reading ${job.page}/${job.pages}` : 'reading…', failed: 'failed' }[job.state];
  return make('li', { class: `job ${job.state}`, 'data-testid': 'job', 'data-state': job.state },
    make('span', { class: 'job-name', title: job.name }, job.name),
    make('span', { class: 'job-state' }, said),
    ['reading', 'uploading'].includes(job.state) && bar,
    job.message && make('span', { class: 'job-message' }, job.message),
    job.state === 'failed' && job.id !== undefined
      && make('button', { type: 'button', class: 'button small', 'data-retry': job.id }, 'Try again'));
}

function drawDocuments(value) {
  const needle = part('narrow').value.trim().toLowerCase();
  const documents = value.documents || [];
  const rows = documents.filter((d) => `${d.name}\n${d.title}`.toLowerCase().includes(needle));
  if (!changed('documents', [rows, asking, value.total])) return;
  part('total').textContent = value.total ? `${count(value.total, 'document')}, ${count(value.pages, 'page')}` : 'Documents';
  part('narrow').hidden = documents.length < 8;
  part('documents').replaceChildren(...rows.map(drawDocument));
  if (value.jobs && !documents.length) part('documents').append(make('li', { class: 'none' }, 'Nothing here yet. What you add on this page can be searched as soon as it is read.'));
  else if (documents.length && !rows.length) part('documents').append(make('li', { class: 'none' }, 'No document has this in its name.'));
  if (value.total > documents.length) part('documents').append(make('li', { class: 'none' }, `Only the newest ${documents.length} are listed; all are searched.`));
}

function drawDocument(d) {
  const scanned = d.scanned ? (d.scanned === d.pages ? ' · all scanned' : ` · ${d.scanned} scanned`) : '';
  const added = new Date(d.added).toLocaleDateString('en-GB', { day: 'numeric', month: 'short', year: 'numeric' });
  const title = d.title && d.title.toLowerCase() !== d.name.toLowerCase() ? d.title : '';
  return make('li', { class: d.leaving ? 'document leaving' : 'document', 'data-testid': 'document', 'data-doc': d.doc },
    make('a', { class: 'document-open', href: address({ doc: d.doc, page: 1 }).search, 'data-open': d.doc },
      make('span', { class: 'mini' }, make('img', { src: d.thumb, alt: '', loading: 'lazy' })),
      make('span', { class: 'document-text' }, make('span', { class: 'name' }, d.name),
        title && make('span', { class: 'document-title' }, title),
        make('span', { class: 'where' }, `${count(d.pages, 'page')}${scanned} · added ${added}`),
        d.left_out && make('span', { class: 'warning' }, `could not be rendered: page ${d.left_out}`))),
    d.leaving ? make('span', { class: 'where' }, 'removing…')
      : asking === d.doc
        ? make('span', { class: 'confirm', role: 'group' }, `Remove ${count(d.pages, 'page')}?`,
          make('button', { type: 'button', class: 'button small danger', 'data-remove': d.doc }, 'Remove'),
          make('button', { type: 'button', class: 'button small', 'data-keep': true }, 'Keep'))
        : make('button', { type: 'button', class: 'icon quiet', 'data-ask': d.doc, 'aria-label': `Remove ${d.name}`, title: 'Remove' }, '✕'));
}

// Uploads: one PUT each, a few at once, so that one bad file holds up none of the others.

const queue = [];
let running = 0;

function add(files) {
  for (const file of files) {
    const row = { name: file.name, share: 0, message: '' };
    uploads.push(row);
    queue.push([file, row]);
  }
  draw();
  while (running < AT_ONCE && queue.length) next();
}

function next() {
  const item = queue.shift();
  if (!item) return;
  const [file, row] = item;
  running++;
  const request = new XMLHttpRequest();
  request.open('PUT', `upload/${encodeURIComponent(file.name)}`);
  request.upload.onprogress = (event) => { row.share = event.total ? event.loaded / event.total : 1; draw(); };
  request.onloadend = () => {
    running--;
    if (request.status === 201) uploads.splice(uploads.indexOf(row), 1);
    else row.message = refusal(request);
    trigger('added');
    draw();
    next();
  };
  request.send(file);
}

function refusal(request) {
  try {
    return JSON.parse(request.responseText).message || `The server refused it (${request.status}).`;
  } catch {
    return request.status ? `The server refused it (${request.status}).` : 'It did not reach the server: is it still running?';
  }
}

async function dropped(items) {
  const entries = [...items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  const found = [];
  for (const entry of entries) await collect(entry, found, false);
  return found;
}

async function collect(entry, found, nested) {
  if (entry.isFile) {
    const file = await new Promise((done, failed) => entry.file(done, failed));
    if (!nested || READABLE.test(file.name)) found.push(file);
    return;
  }
  const reader = entry.createReader();
  for (;;) { // a reader gives at most 100 entries at a time
    const some = await new Promise((done, failed) => reader.readEntries(done, failed));
    if (!some.length) return;
    for (const child of some) if (!child.name.startsWith('.')) await collect(child, found, true);
  }
}

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
part('narrow').addEventListener('input', draw);

element.addEventListener('click', (event) => {
  const button = event.target.closest('button, a');
  if (!button || event.ctrlKey || event.metaKey) return;
  const { act, ask, remove, keep, retry, open } = button.dataset;
  if (act === 'samples') trigger('samples');
  if (act === 'clear') {
    uploads.splice(0, uploads.length, ...uploads.filter((row) => !row.message));
    trigger('clear');
  }
  if (ask) asking = ask;
  if (remove) trigger('remove', { doc: remove });
  if (remove || keep !== undefined) asking = '';
  if (retry) trigger('retry', { job: Number(retry) });
  if (open) {
    event.preventDefault();
    openPage({ query: '', doc: open, page: 1 }, { push: true, user: true });
    trigger('opened');
  }
  draw();
});
watch('value', draw);
draw();
