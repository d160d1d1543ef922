// Uploads files with one PUT each, a few at a time, so that one bad file does not hold up the others.

import { apiUrl, toLogin } from './api.js';

const READABLE = /\.(pdf|png|jpe?g|tiff?|webp|bmp)$/i;
const AT_ONCE = 3;
export const uploads = []; // {name, share, message, size}: under way, or rejected with a message
const queue = [];
let running = 0;
let listener = () => {};
let timer = null;
const NOTIFY_MS = 300;

// Calls the listener at most a few times per second: many files make many small steps.
function notifySoon() {
  timer ??= setTimeout(() => {
    timer = null;
    listener({ ended: !running && !queue.length });
  }, NOTIFY_MS);
}

export function onUpload(callback) {
  listener = callback;
}

export function add(files) {
  for (const file of files) {
    const row = { name: file.name, share: 0, message: '', size: file.size };
    uploads.push(row);
    queue.push([file, row]);
  }
  notifySoon();
  while (running < AT_ONCE && queue.length) next();
}

export function forgetRejected() {
  uploads.splice(0, uploads.length, ...uploads.filter((row) => !row.message));
}

function next() {
  const item = queue.shift();
  if (!item) return;
  const [file, row] = item;
  running++;
  const request = new XMLHttpRequest();
  request.open('PUT', apiUrl(`upload/${encodeURIComponent(file.name)}`));
  request.upload.onprogress = (event) => { row.share = event.total ? event.loaded / event.total : 1; notifySoon(); };
  request.onloadend = () => {
    if (request.status === 429) { // the server is receiving as many files as it allows: send this one again later
      setTimeout(() => { running--; queue.unshift(item); next(); }, 1000 * (Number(request.getResponseHeader('Retry-After')) || 5));
      return;
    }
    running--;
    if (request.status === 401) return toLogin();
    if (request.status === 201) uploads.splice(uploads.indexOf(row), 1);
    else row.message = rejection(request);
    notifySoon();
    next();
  };
  request.send(file);
}

function rejection(request) {
  try {
    return JSON.parse(request.responseText).error.message;
  } catch {
    return request.status ? `The server rejected this file (HTTP ${request.status}).` : 'The file did not reach the server. Check your connection, then add the file again.';
  }
}

export async function dropped(items) {
  const entries = [...items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  const files = [];
  for (const entry of entries) await collect(entry, files, false);
  return files;
}

async function collect(entry, files, nested) {
  if (entry.isFile) {
    const file = await new Promise((done, failed) => entry.file(done, failed));
    if (!nested || READABLE.test(file.name)) files.push(file);
    return;
  }
  const reader = entry.createReader();
  for (;;) { // a reader returns at most 100 entries at a time
    const some = await new Promise((done, failed) => reader.readEntries(done, failed));
    if (!some.length) return;
    for (const child of some) if (!child.name.startsWith('.')) await collect(child, files, true);
  }
}

window.addEventListener('beforeunload', (event) => { if (running || queue.length) event.preventDefault(); });
