// The files being added: fetched every second while there is work, and drawn as a list with the speed and the time left.

import { get, send } from './api.js';
import { count, duration, make, number, toast } from './dom.js';
import { refresh } from './library-state.js';
import { uploads } from './upload.js';

const WORDS = { uploading: 'uploading', queued: 'waiting', done: 'done', skipped: 'already in the library', failed: 'failed', cancelled: 'cancelled', removing: 'removing' };
const ENDED = ['failed', 'skipped', 'done', 'cancelled'];
const ORDER = ['uploading', 'reading', 'failed', 'queued', 'cancelled', 'skipped', 'done'];
const POLL = 1000;
const LISTED = 40; // uploads in the list
let part;
let timer = null;
let drawn = '';
let before = { busy: false, done: 0 };
export let jobs = null;
let listener = () => {};

export function mountJobs(named, changed) {
  part = named;
  listener = changed;
}

export async function fetchJobs() {
  clearTimeout(timer);
  try {
    update(await get('jobs'));
  } catch (error) {
    if (error.status === 0 || error.status === 503) timer = setTimeout(fetchJobs, 2 * POLL);
  }
}

export async function act(path, body) {
  try {
    update(await send('POST', path, body));
    return true;
  } catch (error) {
    toast(error.message);
    return false;
  }
}

function update(value) {
  jobs = value;
  draw();
  const done = value.counts.done ?? 0;
  const line = value.command_line;
  const busy = value.busy || value.task || line?.state === 'running';
  if (done !== before.done || before.busy !== Boolean(busy) || (line && line.files_ended !== before.line)) {
    refresh();
    listener();
  }
  if (before.task && !value.task && value.task_result) toast(value.task_result, { seconds: 15 });
  before = { busy: Boolean(busy), done, task: value.task, line: line?.files_ended };
  clearTimeout(timer);
  if (busy) timer = setTimeout(fetchJobs, POLL);
}

export function draw() {
  if (!part || !jobs) return;
  const sending = uploads.slice(0, LISTED).map(({ name, share, message }) => ({ name, state: message ? 'failed' : 'uploading', share, message }));
  const unsent = uploads.length - sending.length;
  const rows = [...sending, ...jobs.jobs.filter((job) => job.state !== 'removing')];
  rows.sort((a, b) => ORDER.indexOf(a.state) - ORDER.indexOf(b.state));
  const text = JSON.stringify([rows, unsent, { ...jobs, jobs: 0 }]);
  if (text === drawn) return;
  drawn = text;
  part('progress').hidden = !rows.length;
  part('jobs').replaceChildren(...rows.map(row));
  const { counts } = jobs;
  const hidden = Object.entries(counts).reduce((sum, [state, n]) => sum + (state === 'removing' ? 0 : n), 0) - (rows.length - sending.length) + unsent;
  if (hidden > 0) part('jobs').append(make('li', { class: 'none' }, `and ${count(hidden, 'more file')}`));
  const waiting = (counts.queued ?? 0) + (counts.reading ?? 0) + sending.filter((upload) => !upload.message).length + unsent;
  part('progress-title').textContent = waiting ? `Adding ${count(waiting, 'file')}` : summary(counts);
  const show = (name, on) => { part('progress').querySelector(`[data-act=${name}]`).hidden = !on; };
  show('cancel-all', waiting > 1);
  show('retry-all', (counts.failed ?? 0) > 1);
  show('clear', rows.some((job) => ENDED.includes(job.state)));
  part('pace').textContent = speed();
  part('pace').hidden = !part('pace').textContent;
  drawOtherProgram();
}

const summary = (counts) => ['done', 'skipped', 'failed', 'cancelled'].filter((state) => counts[state]).map((state) => `${number(counts[state])} ${WORDS[state]}`).join(', ') || 'Added';

function speed() {
  if (jobs.waiting) return jobs.waiting;
  if (!jobs.busy) return '';
  return [jobs.pages_per_second > 0 && `${number(jobs.pages_per_second, 1)} pages per second`, jobs.seconds_left != null && `about ${duration(jobs.seconds_left)} left`].filter(Boolean).join(' · ');
}

function row(job) {
  const share = job.state === 'uploading' ? job.share : job.pages ? job.page / job.pages : 0;
  const done = make('i');
  if (share) done.style.width = `${Math.round(share * 100)}%`;
  const bar = make('span', { class: share ? 'progress' : 'progress unknown', role: 'progressbar', 'aria-valuemin': 0, 'aria-valuemax': 100,
    'aria-valuenow': share ? Math.round(share * 100) : null, 'aria-label': `Progress of ${job.name}` }, done);
  const button = (what, label) => make('button', { type: 'button', class: 'button small', 'data-job': job.id, 'data-what': what, 'aria-label': `${label} ${job.name}` }, label);
  return make('li', { class: `job ${job.state}`, 'data-testid': 'job', 'data-state': job.state },
    make('span', { class: 'job-name', title: job.name }, job.name),
    make('span', { class: 'job-state' }, stage(job, share)),
    ['reading', 'uploading'].includes(job.state) && bar,
    make('span', { class: 'job-message' }, job.message || ''),
    job.id !== undefined && ['failed', 'cancelled'].includes(job.state) && button('retry', 'Try again'),
    job.id !== undefined && ['queued', 'reading'].includes(job.state) && button('cancel', 'Cancel'));
}

function stage(job, share) {
  if (job.state === 'uploading') return `uploading ${Math.round(share * 100)}%`;
  if (job.state !== 'reading') return WORDS[job.state];
  if (!job.pages) return 'opening…';
  if (job.page >= job.pages) return 'saving…';
  return job.read > job.page ? `read ${number(job.read)}, indexed ${number(job.page)} of ${count(job.pages, 'page')}` : `indexed ${number(job.page)} of ${count(job.pages, 'page')}`;
}

function drawOtherProgram() {
  const line = jobs.command_line;
  part('command').hidden = !line;
  if (!line) return;
  const state = { running: 'Another program is adding documents', finished: 'Another program has finished adding documents', stopped: 'Another program stopped before it had added all documents' }[line.state] ?? line.state;
  part('command').replaceChildren(make('b', {}, state),
    make('p', {}, `${number(line.files_ended)} of ${count(line.files, 'file')}, ${count(line.pages_done, 'page')}${line.pages_per_second ? ` · ${number(line.pages_per_second, 1)} pages per second` : ''}${line.failed ? ` · ${count(line.failed, 'file')} failed` : ''}`),
    line.names.length && line.state === 'running' ? make('p', { class: 'hint' }, `Now: ${line.names.join(', ')}`) : '', line.message ? make('p', { class: 'hint' }, line.message) : '');
}
