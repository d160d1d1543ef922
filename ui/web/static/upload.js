// Files on their way to the server: one PUT each, a few at once, so that one bad file holds up none of the others.

import { asked, toLogin } from './api.js';

const READABLE = /\.(pdf|png|jpe?g|tiff?|webp|bmp)$/i;
const AT_ONCE = 3;
export const uploads = []; // {name, share, message, size}: under way, or refused with a message
const queue = [];
let running = 0;
let told = () => {};
let telling = null;
const TELL_MS = 300;

// Many files make many small steps: they are told of a few times a second.
function tellSoon() {
  telling ??= setTimeout(() => {
    telling = null;
    told({ ended: !running && !queue.length });
  }, TELL_MS);
}

export function onUpload(listener) {
  told = listener;
}

export function add(files) {
  for (const file of files) {
    const row = { name: file.name, share: 0, message: '', size: file.size };
    uploads.push(row);
    queue.push([file, row]);
  }
  tellSoon();
  while (running < AT_ONCE && queue.length) next();
}

export function forgetRefused() {
  uploads.splice(0, uploads.length, ...uploads.filter((row) => !row.message));
}

function next() {
  const item = queue.shift();
  if (!item) return;
  const [file, row] = item;
  running++;
  const request = new XMLHttpRequest();
  request.open('PUT', asked(`upload/${encodeURIComponent(file.name)}`));
  request.upload.onprogress = (event) => { row.share = event.total ? event.loaded / event.total : 1; tellSoon(); };
  request.onloadend = () => {
    if (request.status === 429) { // as many arrive as the server takes at once: this one comes again
      setTimeout(() => { running--; queue.unshift(item); next(); }, 1000 * (Number(request.getResponseHeader('Retry-After')) || 5));
      return;
    }
    running--;
    if (request.status === 401) return toLogin();
    if (request.status === 201) uploads.splice(uploads.indexOf(row), 1);
    else row.message = refusal(request);
    tellSoon();
    next();
  };
  request.send(file);
}

function refusal(request) {
  try {
    return JSON.parse(request.responseText).error.message;
  } catch {
    return request.status ? `The server refused it (${request.status}).` : 'It did not reach the server: is it still running?';
  }
}

export async function dropped(items) {
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

window.addEventListener('beforeunload', (event) => { if (running || queue.length) event.preventDefault(); });
