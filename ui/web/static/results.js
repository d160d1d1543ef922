// The results: what the pages answer, the written answer, a card for each page, the notes above them, and the start screen.

import { mount as mountWritten } from './answer-panel.js';
import { apiUrl, download, send } from './api.js';
import { submit, unfilter } from './ask.js';
import { count, draw as svg, make, number, parts, toast } from './dom.js';
import { showScreen } from './header.js';
import { library, refresh } from './library-state.js';
import { found, more, readRest, search } from './search.js';
import { address, filtered, on, question, state } from './state.js';
import { open, shows, shut } from './viewer.js';

const ANSWERS = 3; // answers that are shown
const LONG = 48; // characters: longer answers are set in smaller type
const OF_ONE = 3; // cards of one document that are shown; the others fold
let root;
let part;
let chosen = ''; // the question for which the reader has opened a page, which stays open when the reranked order arrives
let unfolded = new Set(); // documents
let showing = null; // the answer that the viewer shows

export function mount(element) {
  root = element.querySelector('.results');
  part = parts(root);
  root.addEventListener('click', onClick);
  draw();
  mountWritten(root);
}

function draw() {
  if (!part) return;
  const { phase, value, message } = found;
  root.dataset.state = phase;
  root.dataset.query = value?.query ?? '';
  part('status').replaceChildren(...status(phase, value, message));
  drawWhy(phase, value);
  drawNotes(phase, value);
  drawAnswers(phase, value);
  drawCards();
  drawAfter(phase, value);
  drawHome();
  if (phase === 'ready' && showing !== value) show(value);
  showing = phase === 'ready' ? value : null;
  if (phase === 'failed' || phase === 'none') { if (!state.doc) shut(); else open(state); }
  mark();
}

function drawCards() {
  const { phase, value } = found;
  const focused = document.activeElement?.closest?.('.card')?.dataset;
  if (phase === 'waiting' && !value) part('cards').replaceChildren(...Array.from({ length: 5 }, skeleton));
  else part('cards').replaceChildren(...folded(value?.hits ?? []));
  if (focused) part('cards').querySelector(`.card[data-doc="${focused.doc}"][data-page="${focused.page}"]`)?.focus({ preventScroll: true });
  mark();
}

// That a quoted phrase is missing stands above all answers. That no page answers well is the heading of the pages, whose bars are grey.
function drawNotes(phase, value) {
  const notes = value?.notes ?? [];
  const [missing, weak] = ['missing_phrase', 'weak_match'].map((name) => notes.filter(({ kind }) => kind === name));
  const heading = ({ kind, text }) => make('h2', { class: 'weak-heading', 'data-note': kind }, text);
  root.classList.toggle('weak', weak.length > 0);
  part('missing').replaceChildren(...missing.map(heading));
  part('notes').replaceChildren(...weak.map(heading),
    ...notes.filter((note) => ![...missing, ...weak].includes(note)).map(({ kind, text }) => make('p', { class: 'note', 'data-note': kind }, text)));
  drawRest(phase, value?.decision ?? {});
}

function drawRest(phase, { kind, read, shortlist }) {
  const focused = part('rest').contains(document.activeElement);
  const cut = phase === 'ready' && kind === 'reranked_in_part';
  part('rest').replaceChildren(...(cut ? [make('p', { class: 'note rest', 'data-testid': 'rest' },
    make('span', {}, `Read ${read} of ${shortlist} pages in time; the rest keep their first place.`),
    make('button', { type: 'button', class: 'button small', 'data-act': 'rest', 'aria-disabled': found.reading && 'true' }, found.reading ? 'Reading the rest…' : 'Read the rest'))] : []));
  if (focused) (part('rest').querySelector('button') ?? part('status')).focus();
}

function drawAnswers(phase, value) {
  const answers = phase === 'ready' ? value.answers.slice(0, ANSWERS) : [];
  part('answers').hidden = !answers.length;
  part('answers').replaceChildren(...answers.map(drawAnswer));
  const [best] = answers;
  const said = best ? `Answer: ${best.text}. ${place(best)}` : '';
  if (part('live').textContent !== said) part('live').textContent = said;
}

const place = ({ document: name, page }) => `${name}, page ${page}`;

const drawAnswer = (answer, i) => make('a', {
  class: ['answer', i && 'more', answer.text.length > LONG && 'long'].filter(Boolean).join(' '), href: address({ doc: answer.doc_id, page: answer.page }).search, 'data-testid': 'answer', 'data-doc': answer.doc_id, 'data-page': answer.page,
},
make('span', { class: 'answer-line' }, make('strong', { dir: 'auto' }, answer.text),
  make('span', { class: 'answer-place', title: 'The percentage is the probability that these words answer the question' }, `${place(answer)} · ${percent(answer.probability)}`)),
answer.passage.some(([text, bold]) => !bold && text.length > 2) && make('span', { class: 'answer-passage', dir: 'auto' }, ...pieces(answer.passage)));

const pieces = (passage) => passage.map(([text, bold]) => (bold ? make('mark', {}, text) : text));
const percent = (probability) => `${Math.round(probability * 100)}% likely`;

const skeleton = () => make('li', { class: 'skeleton', 'aria-hidden': 'true' }, make('i', { class: 'thumb' }), make('i', { class: 'lines' }));

function status(phase, value, message) {
  if (phase === 'failed') return [make('p', { class: 'problem', 'data-testid': 'problem' }, message)];
  if (phase === 'waiting') return [make('p', { class: 'working' }, message || 'Searching…')];
  if (!value) return [];
  const best = !value.hits.length ? 'No page found' : value.hits.length === 1 ? 'The best page' : `The best ${value.hits.length} pages`;
  const of = value.hits.length ? ` of ${number(value.searched)}` : '';
  const took = value.stages.reduce((sum, stage) => sum + stage.ms, 0);
  return [make('p', { 'data-testid': 'status' }, `${best}${of} · ${number(took)} ms`),
    phase === 'first' && make('p', { class: 'working' }, 'This is the first stage’s order; the best pages are being reranked…')].filter(Boolean);
}

function drawWhy(phase, value) {
  part('why').hidden = phase !== 'ready';
  if (phase !== 'ready') return;
  const cut = value.decision.kind === 'reranked_in_part'; // a note above the pages says so
  part('decision').textContent = cut ? 'What each stage did' : value.decision.text;
  part('stages').replaceChildren(...[
    cut && make('p', {}, `${value.decision.text}.`),
    make('ul', {}, ...value.stages.map(({ name, ms, note }) =>
      make('li', {}, make('b', {}, name), ` ${number(ms, ms < 10 ? 1 : 0)} ms`, note && make('span', {}, ` · ${note}`)))),
    value.reranked && make('p', {}, '▲ and ▼ show how far a page moved from its rank in the first stage.'),
    value.hits.some(({ confidence }) => confidence != null) && make('p', {}, 'A bar shows how likely the page is to answer the question.'),
  ].filter(Boolean));
}

function folded(hits) {
  const seen = {};
  for (const hit of hits) (seen[hit.doc_id] ??= []).push(hit);
  const last = (hit) => seen[hit.doc_id].indexOf(hit) === OF_ONE - 1 && !unfolded.has(hit.doc_id) ? seen[hit.doc_id].length - OF_ONE : 0;
  return hits.filter((hit) => unfolded.has(hit.doc_id) || seen[hit.doc_id].indexOf(hit) < OF_ONE).map((hit) => drawCard(hit, last(hit)));
}

function drawCard(hit, hidden) {
  const where = { doc: hit.doc_id, page: hit.page };
  const card = make('a', {
    class: 'card', href: address(where).search, 'data-testid': 'result-card', 'data-doc': hit.doc_id, 'data-page': hit.page, 'data-rank': hit.rank,
  },
  make('span', { class: hit.width > hit.height ? 'thumb wide' : 'thumb' },
    make('span', { class: 'picture' }, make('img', { src: hit.thumb, loading: 'lazy', alt: '' }), spots(hit)), make('span', { class: 'rank' }, String(hit.rank))),
  make('span', { class: 'body' },
    make('span', { class: 'name', title: hit.title ? `${hit.title} (${hit.document})` : hit.document }, hit.document),
    make('span', { class: 'where' }, `page ${hit.page} of ${hit.pages}`, hit.date && make('span', {}, `· ${hit.date}`),
      hit.scanned && make('span', { class: 'badge' }, 'scan'),
      hit.scores.place && make('span', { class: 'badge', title: 'This page has the page number, figure, table or section that the question names' }, 'named'), hit.judged != null && make('span', { class: hit.judged ? 'judged yes' : 'judged no' }, hit.judged ? 'answers' : 'does not answer')),
    hit.same.length > 0 && make('span', { class: 'where', title: hit.same.join(', ') }, `${hit.same.length === 1 ? 'one more page says' : `${hit.same.length} more pages say`} nearly the same`),
    make('span', { class: 'snippet', dir: 'auto' }, ...pieces(hit.snippet)),
    make('span', { class: 'score' }, ...likely(hit), movement(hit))));
  return make('li', {}, card, hidden > 0 && make('button', { type: 'button', class: 'link more-of-one', 'data-unfold': hit.doc_id },
    `${count(hidden, 'more result')} from this document`));
}

// The place of the answer on the thumbnail.
const spots = ({ regions }) => regions.some(({ kind }) => kind === 'answer') && svg('svg', { viewBox: '0 0 1 1', preserveAspectRatio: 'none', 'aria-hidden': 'true', 'data-testid': 'spots' },
  ...regions.filter(({ kind }) => kind === 'answer').map(({ box: [x0, y0, x1, y1] }) => svg('rect', { x: x0, y: y0, width: x1 - x0, height: y1 - y0 })));

// How likely the page is to answer, as a bar and in words; nothing if that is not known.
function likely({ confidence, scores }) {
  if (confidence == null) return [];
  const fill = make('i');
  fill.style.width = `${Math.round(confidence * 100)}%`;
  const all = Object.entries(scores).map(([name, score]) => `${name} ${number(score, 3)}`).join(' · ');
  return [make('span', { class: 'bar', 'aria-hidden': 'true', title: `${percent(confidence)} to answer. ${all}`, 'data-testid': 'confidence' }, fill),
    make('span', { class: 'likely', title: `${percent(confidence)} to answer the question` }, percent(confidence))];
}

function movement({ moved, first_rank: first, reranked }) {
  if (moved == null) return null;
  const [kind, text] = moved > 0 ? ['up', `▲${moved}`] : moved < 0 ? ['down', `▼${-moved}`] : ['same', '='];
  return make('span', { class: 'moves', title: `Rank ${first} in the first stage, before reranking${reranked ? '' : '; not reranked'}` },
    make('span', { class: `chip ${kind}`, 'data-testid': 'moved' }, text), make('span', { class: 'first' }, `first stage rank ${first}`));
}

function drawAfter(phase, value) {
  if (phase !== 'ready' || !value.hits.length) return part('after').replaceChildren();
  const file = (format, label) => make('a', { class: 'link', href: apiUrl('export', question({ format, top: value.hits.length, budget_ms: found.budget ?? '' })).href, 'data-export': format }, label);
  const rest = value.found - value.hits.length;
  return part('after').replaceChildren(
    rest > 0 ? make('button', { type: 'button', class: 'button small', 'data-act': 'more' }, `Show ${Math.min(10, rest)} more`) : '',
    make('span', { class: 'exports' }, 'Export: ', file('csv', 'CSV'), ' ', file('json', 'JSON'), ' ', file('pdf', 'PDF of these pages')));
}

function drawHome() {
  const box = part('home');
  const empty = library.state === 'ready' && !library.documents;
  box.hidden = library.state === 'loading' || (found.phase !== 'none' && !(found.phase === 'ready' && !found.value.hits.length));
  if (box.hidden) return;
  const button = (act, text, primary) => make('button', { type: 'button', class: primary ? 'button primary' : 'button', 'data-act': act }, text);
  if (library.state === 'failed' || library.state === 'away') {
    box.replaceChildren(make('h2', {}, library.state === 'away' ? 'The server is not responding' : 'The library cannot be opened'), make('p', {}, library.message),
      ...(library.kind === 'EncoderMismatch' ? [make('p', {}, 'The stored pages can be encoded again. No file is read or OCRed again, and the old index is saved next to the new one.'), button('reembed', 'Encode all pages again', true)] : []));
  } else if (found.phase === 'ready') {
    box.replaceChildren(make('h2', {}, 'No results'),
      make('p', {}, filtered() ? 'The filters above leave out part of the library.' : 'Try other words, or fewer of them.'),
      filtered() ? button('unfilter', 'Search without filters', true) : '');
  } else if (!empty) {
    box.replaceChildren(make('h2', {}, 'Ask for the page you need'),
      make('p', {}, 'Use your own words. Text, tables, charts and scans are all searched, and the matches are highlighted.'),
      ...examples(library.questions, 'For example'), ...examples(recent(), 'Your recent questions'));
  } else if (library.busy) {
    box.replaceChildren(make('h2', {}, 'Reading your documents…'), make('p', {}, 'Each document can be searched as soon as it has been read.'), button('library', 'Show progress'));
  } else {
    box.replaceChildren(make('h2', {}, 'Your library is empty'), make('p', {}, 'Add PDFs or images: reports, scans, slides, forms. They are stored on this server only.'),
      make('p', { class: 'acts' }, button('library', 'Add documents', true), library.samples > 0 && button('samples', `Try the ${library.samples} sample documents`)));
  }
}

const examples = (questions, title) => (questions.length ? [make('p', { class: 'try' }, title), make('ul', { class: 'examples' }, ...questions.slice(0, 10).map((text) =>
  make('li', {}, make('button', { type: 'button', class: 'example', 'data-question': text }, text))))] : []);

// The most recent questions, which are stored in this browser only.
function recent() {
  try {
    return JSON.parse(localStorage.getItem('folioscope-recent') ?? '[]').filter((text) => typeof text === 'string' && !library.questions.includes(text)).slice(0, 5);
  } catch {
    return []; // the stored text is not valid
  }
}
function remember(text) {
  localStorage.setItem('folioscope-recent', JSON.stringify([text, ...recent().filter((other) => other !== text)].slice(0, 8)));
}

function show(value) {
  if (value.hits.length) remember(value.query);
  const first = value.answers[0] ?? value.hits[0]; // the answer that stands above the pages is the one that is lit
  if (state.doc) { if (!shows({ ...state })) open(state); }
  else if (first && chosen !== value.query) open({ doc: first.doc_id, page: first.page });
  else if (!first) shut();
}

function choose(card) {
  chosen = state.query;
  open({ doc: card.dataset.doc, page: Number(card.dataset.page) }, { push: true, user: true });
}

async function onClick(event) {
  const card = event.target.closest('.card, .answer');
  if (card && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
    event.preventDefault();
    choose(card);
  }
  const link = event.target.closest('a[data-export]');
  if (link && !event.ctrlKey && !event.metaKey) {
    event.preventDefault();
    save(link);
  }
  const { act, question: text, unfold } = event.target.closest('button')?.dataset ?? {};
  if (text) submit(text);
  if (unfold) { unfolded.add(unfold); drawCards(); }
  if (act === 'more') more();
  if (act === 'rest' && !found.reading) readRest();
  if (act === 'library') showScreen('library', { push: true });
  if (act === 'unfilter') unfilter();
  if (act === 'samples' || act === 'reembed') {
    try {
      await send('POST', act === 'samples' ? 'samples' : 'index/reembed');
      await refresh();
      if (act === 'samples') showScreen('library', { push: true });
    } catch (error) {
      toast(error.message);
    }
  }
}

async function save(link) {
  const label = link.textContent;
  link.textContent = 'preparing…';
  try {
    const notes = await download(link.href);
    if (notes) toast(notes, { seconds: 15 });
  } catch (error) {
    toast(error.message);
  }
  link.textContent = label;
}

export function move(step) {
  const cards = [...root.querySelectorAll('.card')];
  const at = cards.findIndex((card) => card.getAttribute('aria-current'));
  const next = cards[Math.max(0, Math.min(cards.length - 1, at + step))];
  if (!next) return;
  next.focus({ preventScroll: true });
  next.scrollIntoView({ block: 'nearest' });
  choose(next);
}

function mark() {
  for (const card of root?.querySelectorAll('.card, .answer') ?? []) {
    const current = card.dataset.doc === state.doc && Number(card.dataset.page) === state.page;
    if (current) card.setAttribute('aria-current', 'true');
    else card.removeAttribute('aria-current');
  }
}

on('results', () => {
  if (found.phase === 'waiting') {
    unfolded = new Set();
    chosen = '';
  }
  draw();
});
on('library', () => part && drawHome());
on('shown', mark);
on('judged', drawCards);
on('removed', () => found.value && search({ top: found.top, keep: true }));
