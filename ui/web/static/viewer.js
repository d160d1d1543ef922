// One page with highlights: its answer, boxes and a heat map for the question's words, zoom, paging, selectable text, and the strip of its document's pages.

import { apiUrl, get, send } from './api.js';
import { onlyIn } from './ask.js';
import { count, draw as svg, make, parts, toast } from './dom.js';
import { paint, unpack } from './heat.js';
import { found, search } from './search.js';
import { address, go, on, state, tell } from './state.js';
import { drawStrip } from './strip.js';

const COLOURS = ['#2f9bff', '#2fbf71', '#c77dff', '#00b8b0', '#ff6fae', '#7c8cff']; // of the question's words; amber is the answer's
const MARGIN = 0.003; // of the page's width, around a highlighted word
const EMPTY = 'The page that answers your question opens here, with the matches highlighted.';
const SHEET = '(max-width: 860px)'; // on narrow screens the page covers the results

let root;
let part;
let shown = null; // the view on screen
let heat = null;
let target = 0; // the page last requested: keys count from this page, which may not have arrived yet
let latest = 0; // number of the latest request: only its answer is drawn
let hiddenWords = new Set(); // words whose highlights are off, as written
let answerHidden = false;
let fit = 'page'; // 'page', 'width', or a factor of the width
const layers = { boxes: true, heat: false }; // which highlights are drawn
const views = new Map();
const ruler = document.createElement('canvas').getContext('2d');

export function mount(element) {
  root = element.querySelector('.viewer');
  part = parts(root);
  root.addEventListener('click', onClick);
  part('number').addEventListener('change', (event) => {
    goTo(Math.max(1, Math.min(shown?.pages ?? 1, parseInt(event.target.value, 10) || target)));
    event.target.value = target;
  });
  part('light').addEventListener('input', strength);
  part('stage').addEventListener('wheel', (event) => {
    if (!event.ctrlKey) return;
    event.preventDefault();
    zoom(event.deltaY < 0 ? 1.1 : 0.9);
  }, { passive: false });
  part('stage').addEventListener('pointerdown', pan);
  strength();
  const watcher = new ResizeObserver(resize);
  watcher.observe(part('stage'));
  watcher.observe(document.querySelector('#ask') ?? root);
  if (state.doc && (!state.query || found.phase === 'ready')) open(state); // the answer may have arrived before this part was mounted
}

function fetchView(query, doc, page) {
  const key = JSON.stringify([query, doc, page]);
  if (!views.has(key)) {
    if (views.size > 80) views.delete(views.keys().next().value);
    const answer = get(`documents/${encodeURIComponent(doc)}/pages/${page}`, { q: query });
    views.set(key, answer);
    answer.catch(() => views.delete(key));
  }
  return views.get(key);
}

// push: adds a step to the history. user: the reader asked for this page, so on a phone it opens over the results.
export async function open({ doc, page }, { push = false, user = false } = {}) {
  const request = ++latest;
  const { query } = state;
  target = page;
  if (!root) return go({ doc, page });
  if (shown && query !== shown.query) {
    hiddenWords = new Set();
    answerHidden = false;
    fit = 'page';
  }
  root.dataset.state = 'loading';
  const sheet = user && matchMedia(SHEET).matches && !root.classList.contains('open');
  if (sheet) setSheet(true);
  let view;
  try {
    view = await fetchView(query, doc, page);
  } catch (error) {
    if (request === latest && query === state.query) fail(error.message);
    return;
  }
  if (request !== latest || query !== state.query) return; // the reader has asked for something else meanwhile
  target = view.page;
  go({ doc: view.doc_id, page: view.page }, { push });
  draw(view);
  document.title = `${query ? `${query} – ` : ''}Folioscope`;
  tell('shown');
}

function draw(view) {
  shown = view;
  heat = unpack(view.heat);
  Object.assign(root.dataset, { doc: view.doc_id, page: view.page });
  part('name').textContent = view.document;
  part('name').title = view.title ? `${view.title} (${view.document})` : view.document;
  part('scan').hidden = !view.scanned;
  part('original').hidden = !view.original;
  if (view.original) part('original').href = `${view.original}#page=${view.page}`;
  const image = `documents/${view.doc_id}/pages/${view.page}/image`;
  part('save').href = apiUrl(image, { format: 'png' });
  part('save-lit').href = apiUrl(image, { format: 'png', q: view.query });
  part('save-lit').hidden = !view.query;
  for (const name of ['save', 'save-lit']) part(name).download = `${view.document.replace(/\.[^.]*$/, '')} p${view.page}.png`;
  part('number').value = view.page;
  part('of').textContent = `/ ${view.pages}`;
  root.querySelector('[data-act=previous]').disabled = view.page <= 1;
  root.querySelector('[data-act=next]').disabled = view.page >= view.pages;
  part('blank').hidden = true;
  part('paper').hidden = false;
  part('judge').hidden = !view.query;
  drawJudgement();
  drawHits();
  drawWords();
  drawLights();
  drawText();
  drawStrip(part('strip'), view, hits());
  loadImage(view);
  setTimeout(() => shown === view && target === view.page && prefetch(view), 250);
  part('live').textContent = `Page ${view.page} of ${view.pages}, ${view.document}. ${view.answer ? `It answers: ${view.answer.text}.` : view.note}`;
}

function prefetch(view) {
  for (const src of view.around) new Image().src = src;
  for (const page of [view.page + 1, view.page - 1]) {
    if (page >= 1 && page <= view.pages) fetchView(view.query, view.doc_id, page).catch(() => {});
  }
}

function loadImage(view) {
  const image = part('image');
  const ready = () => {
    if (shown !== view) return;
    root.dataset.state = 'ready';
    resize();
    seek();
  };
  image.onload = ready;
  image.onerror = () => shown === view && fail('The image of this page could not be loaded: its document may have been removed.');
  image.alt = `Page ${view.page} of ${view.document}`;
  resize();
  if (image.getAttribute('src') === view.image && image.complete && image.naturalWidth) ready();
  else image.src = view.image;
}

const hits = () => (found.value?.query === shown?.query ? found.value?.hits ?? [] : [])
  .filter((hit) => hit.doc_id === shown.doc_id).sort((a, b) => a.page - b.page);

function drawHits() {
  const pages = hits();
  const at = pages.findIndex((hit) => hit.page === shown.page);
  part('hits').hidden = pages.length < 2;
  part('hits').replaceChildren(
    make('button', { type: 'button', class: 'text', 'data-act': 'previous-hit', title: 'Previous hit in this document ( N )', 'aria-label': 'Previous hit' }, '‹'),
    make('span', {}, at < 0 ? count(pages.length, 'hit') : `hit ${at + 1} of ${pages.length}`),
    make('button', { type: 'button', class: 'text', 'data-act': 'next-hit', title: 'Next hit in this document ( n )', 'aria-label': 'Next hit' }, '›'));
}

function drawWords() {
  const focused = document.activeElement?.dataset?.word;
  const onAnswer = document.activeElement?.dataset?.answer !== undefined;
  const there = shown.terms.filter((term) => term.regions.length > 0);
  const label = (text, ...sample) => make('span', { class: 'legend' }, ...sample, text);
  const answer = shown.regions.some(({ kind }) => kind === 'answer' || kind === 'passage') && make('button', { type: 'button', class: 'word is-answer', 'data-answer': true, 'aria-pressed': String(!answerHidden), 'data-testid': 'answer-light',
    title: 'The words of this page that answer, in their sentence or row; thin outlines mark the heads of their column and row' }, make('i'), 'answer');
  const near = there.some(({ kind }) => kind === 'near') && label('similar in meaning', make('i', { class: 'near' }));
  const all = there.length > 1 && make('button', { type: 'button', class: 'word all', 'data-word': '', 'aria-pressed': String(!hiddenWords.size), 'data-testid': 'all-words', title: 'All words' }, 'all');
  part('words').replaceChildren(...[answer, shown.terms.length > 0 && label('words of your question'), all, ...shown.terms.map(chip), near].filter(Boolean));
  if (onAnswer) part('words').querySelector('[data-answer]')?.focus();
  if (focused !== undefined) part('words').querySelector(`[data-word="${CSS.escape(focused)}"]`)?.focus();
}

function chip(term, i) {
  const here = term.regions.length > 0;
  const how = !term.count ? 'not on this page' : !here ? 'on this page, but apart from the other words' : term.kind === 'word' ? count(term.count, 'place')
    : `${count(term.count, 'passage')} similar in meaning; the word itself is not on this page`;
  const node = make('button', {
    type: 'button', class: here ? 'word' : 'word absent', 'data-word': term.term, title: `${how}${here ? '; double-click to highlight only this word' : ''}`,
    'aria-pressed': String(here && !hiddenWords.has(term.term)), 'aria-disabled': !here && 'true', 'data-testid': 'word',
  }, make('i'), term.term, make('small', {}, !term.count ? 'not here' : !here ? 'apart' : term.kind === 'word' ? String(term.count) : `≈${term.count}`));
  node.style.setProperty('--light', COLOURS[i % COLOURS.length]);
  return node;
}

const answers = () => shown.regions.filter(({ kind }) => kind === 'answer');

function drawLights() {
  const marginY = MARGIN * (shown.width / shown.height);
  const light = ([x0, y0, x1, y1], attributes) => svg('rect', {
    x: x0 - MARGIN, y: y0 - marginY, width: x1 - x0 + 2 * MARGIN, height: y1 - y0 + 2 * marginY, ...attributes });
  const words = shown.terms.flatMap((term, i) => (hiddenWords.has(term.term) ? [] : term.regions.map(([x0, y0, x1, y1, strong]) => light([x0, y0, x1, y1], {
    fill: COLOURS[i % COLOURS.length], 'fill-opacity': term.kind === 'word' ? 0.15 + 0.6 * strong : 0.1 + 0.15 * strong,
    class: term.kind, stroke: COLOURS[i % COLOURS.length], 'stroke-opacity': 0.4 + 0.5 * strong, 'data-term': term.term }))));
  const passages = shown.regions.filter(({ kind }) => kind === 'passage');
  const heads = shown.regions.filter(({ kind }) => kind === 'head');
  const lit = (regions, name) => (answerHidden ? [] : regions.map(({ box, strength }) => light(box, { class: strength < 0.7 ? name : `${name} strongest` })));
  part('lights').replaceChildren(...(layers.boxes ? [...lit(passages, 'passage'), ...words, ...lit(answers(), 'answer')] : []));
  // Outlines are not multiplied with the page: they must be seen on a dark table head as well. Each is dark on light.
  part('outlines').replaceChildren(...(layers.boxes ? ['halo', 'edge'].flatMap((ring) => [...lit(heads, `head ${ring}`), ...lit(answers(), `best ${ring}`)]) : []));
  const glows = layers.heat && heat && paint(part('heat'), heat, shown.width / shown.height, (term) => (shown.answer ? !answerHidden : !hiddenWords.has(term)));
  part('heat').hidden = !glows;
  const cold = layers.heat && !glows && shown.query && !shown.note;
  part('note').textContent = shown.note || (cold ? 'No part of this page stands out for these words, so there is no heat map to show.' : '');
  part('note').hidden = !part('note').textContent;
  for (const [act, on] of Object.entries(layers)) root.querySelector(`[data-act=${act}]`).setAttribute('aria-pressed', String(on));
}

// Lays the page's words invisibly over the image, so that the reader can select, copy and find them.
function drawText() {
  const ratio = shown.width / shown.height;
  ruler.font = '100px sans-serif';
  part('text').replaceChildren(...shown.words.map(([text, x0, y0, x1, y1]) => {
    const size = Math.max(0.004, (y1 - y0) * 0.92);
    const span = make('span', {}, `${text} `);
    const wide = ruler.measureText(text).width / 100 * size; // in page heights
    Object.assign(span.style, { left: `${x0 * 100}%`, top: `${y0 * 100}%`, fontSize: `${size * 100}cqh`,
      transform: wide > 0 ? `scaleX(${((x1 - x0) * ratio / wide).toFixed(4)})` : '' });
    return span;
  }));
}

function drawJudgement() {
  for (const button of part('judge').querySelectorAll('[data-grade]')) {
    button.setAttribute('aria-pressed', String(shown.judged === Number(button.dataset.grade)));
  }
}

async function judge(grade) {
  const view = shown;
  if (!view?.query) return;
  const before = view.judged;
  view.judged = before === grade ? null : grade;
  drawJudgement();
  try {
    await send('POST', 'judgements', { query: view.query, doc_id: view.doc_id, page: view.page, grade: view.judged });
    const hit = found.value?.hits.find((other) => other.doc_id === view.doc_id && other.page === view.page);
    if (hit && found.value.query === view.query) hit.judged = view.judged;
    tell('judged');
  } catch (error) {
    view.judged = before;
    if (shown === view) drawJudgement();
    toast(error.message);
  }
}

function fail(problem) {
  root.dataset.state = 'error';
  shown = null;
  for (const name of ['words', 'hits', 'lights', 'outlines', 'text', 'strip']) part(name).replaceChildren();
  delete part('strip').dataset.key;
  part('paper').hidden = true;
  part('blank').hidden = false;
  part('blank').replaceChildren(problem, state.query ? make('button', { type: 'button', class: 'button small', onclick: () => search() }, 'Search again') : '');
  part('live').textContent = problem;
}

export function shut() {
  if (!root) return;
  latest++;
  fail(EMPTY);
  root.dataset.state = 'empty';
  setSheet(false);
}

function setSheet(on) {
  if (on === root.classList.contains('open')) return;
  root.classList.toggle('open', on);
  document.documentElement.classList.toggle('sheet-open', on);
  for (const behind of document.querySelectorAll('#header, #ask, #found, #screens .tab-wrapper')) behind.inert = on;
  if (on) root.querySelector('[data-act=close]').focus();
  else document.querySelector('.card[aria-current]')?.focus({ preventScroll: true });
}

function room() {
  const stage = part('stage');
  const style = getComputedStyle(stage);
  return { width: stage.clientWidth - 2 * parseFloat(style.paddingLeft), height: stage.clientHeight - 2 * parseFloat(style.paddingTop) };
}

function resize() {
  const panes = document.querySelector('#panes'); // both panes end at the bottom of the window
  if (panes?.offsetParent) document.documentElement.style.setProperty('--folio-top', `${Math.round(panes.getBoundingClientRect().top + scrollY)}px`);
  if (!shown) return;
  const ratio = shown.width / shown.height;
  const { width, height } = room();
  if (width <= 0) return;
  const wholePage = Math.min(width, height * ratio);
  const drawn = fit === 'page' ? wholePage : fit === 'width' ? width : width * fit;
  part('paper').style.width = `${drawn}px`;
  part('paper').style.height = `${drawn / ratio}px`;
  part('zoom').textContent = fit === 'page' ? 'Page' : fit === 'width' ? 'Width' : `${Math.round(fit * 100)}%`;
}

function seek() {
  // If the page is taller than the stage, begin at the best match.
  const best = answers()[0]?.box ?? shown.terms.flatMap((term) => (hiddenWords.has(term.term) ? [] : term.regions)).sort((a, b) => b[4] - a[4])[0];
  const stage = part('stage');
  const paper = part('paper');
  const at = best ? ((best[1] + best[3]) / 2) * paper.clientHeight - stage.clientHeight / 2 : 0;
  stage.scrollTo({ top: Math.max(0, at), left: best ? ((best[0] + best[2]) / 2) * paper.clientWidth - stage.clientWidth / 2 : 0 });
}

function zoom(factor) {
  if (!shown) return;
  const stage = part('stage');
  const before = part('paper').clientWidth;
  const centre = [stage.scrollLeft + stage.clientWidth / 2, stage.scrollTop + stage.clientHeight / 2];
  fit = Math.max(0.2, Math.min(6, (before / room().width) * factor));
  resize();
  const grown = part('paper').clientWidth / before;
  stage.scrollTo(centre[0] * grown - stage.clientWidth / 2, centre[1] * grown - stage.clientHeight / 2);
}

function setFit(kind) {
  fit = kind;
  resize();
  if (shown) seek();
}

// Dragging outside of words moves a page that is larger than its stage.
function pan(event) {
  const stage = part('stage');
  if (event.button !== 0 || event.pointerType === 'touch' || event.target.closest('.page-text span, button')) return;
  if (stage.scrollWidth <= stage.clientWidth && stage.scrollHeight <= stage.clientHeight) return;
  const from = [event.clientX + stage.scrollLeft, event.clientY + stage.scrollTop];
  const move = (at) => stage.scrollTo(from[0] - at.clientX, from[1] - at.clientY);
  event.preventDefault();
  root.classList.add('panning');
  window.addEventListener('pointermove', move);
  window.addEventListener('pointerup', () => {
    root.classList.remove('panning');
    window.removeEventListener('pointermove', move);
  }, { once: true });
}

export function goTo(page) {
  if (shown && page >= 1 && page <= shown.pages && page !== target) open({ doc: shown.doc_id, page });
}

function nextHit(step) {
  if (!shown) return;
  const pages = hits().map((hit) => hit.page);
  const page = step > 0 ? pages.find((p) => p > target) : pages.findLast((p) => p < target);
  if (page) goTo(page);
  else part('live').textContent = `No ${step > 0 ? 'later' : 'earlier'} hit in this document`;
}

function toggle(what) {
  layers[what] = !layers[what];
  if (shown) drawLights();
}

export const acts = {
  previous: () => goTo(target - 1),
  next: () => goTo(target + 1),
  first: () => goTo(1),
  last: () => goTo(shown?.pages),
  'previous-hit': () => nextHit(-1),
  'next-hit': () => nextHit(1),
  in: () => zoom(1.25),
  out: () => zoom(0.8),
  fit: () => setFit(fit === 'page' ? 'width' : 'page'),
  whole: () => setFit('page'),
  width: () => setFit('width'),
  boxes: () => toggle('boxes'),
  heat: () => toggle('heat'),
  up: () => judge(1),
  down: () => judge(0),
  close: () => {
    part('more').open = false;
    setSheet(false);
  },
  only: () => onlyIn(shown.doc_id, shown.document),
  link: async () => {
    try {
      await navigator.clipboard.writeText(address().href);
      toast('Link copied.');
    } catch {
      toast('Your browser does not allow this page to copy. Copy the link from the address bar instead.');
    }
  },
};

function onClick(event) {
  const act = event.target.closest('[data-act]')?.dataset.act;
  if (act) acts[act]();
  const leaf = event.target.closest('[data-goto]');
  if (leaf) goTo(Number(leaf.dataset.goto));
  const grade = event.target.closest('[data-grade]');
  if (grade) judge(Number(grade.dataset.grade));
  if (event.target.closest('.menu a, .menu button')) part('more').open = false;
  if (event.target.closest('[data-answer]')) {
    answerHidden = !answerHidden;
    drawWords();
    drawLights();
  }
  const word = event.target.closest('[data-word]');
  if (word && !word.classList.contains('absent')) choose(word.dataset.word, event.detail > 1);
}

// A click turns a word's highlights on or off, a double click leaves only this word's on; "all" turns all on or off.
function choose(word, alone) {
  const there = shown.terms.filter((term) => term.regions.length > 0).map((term) => term.term);
  if (!word) hiddenWords = hiddenWords.size ? new Set() : new Set(there);
  else if (alone) hiddenWords = new Set(there.filter((other) => other !== word));
  else if (!hiddenWords.delete(word)) hiddenWords.add(word);
  drawWords();
  drawLights();
}

function strength() {
  root.style.setProperty('--strength', part('light').value / 100);
}

document.addEventListener('click', (event) => {
  if (part && !event.target.closest?.('[data-part=more]')) part('more').open = false;
});
on('results', () => {
  if (found.phase === 'waiting') latest++; // a page that is still loading belongs to the previous question
  if (!shown || !root) return;
  if (found.phase === 'waiting' || found.phase === 'first') { if (shown.query !== state.query) root.dataset.state = 'loading'; }
  else if (found.phase === 'ready') { drawHits(); drawStrip(part('strip'), shown, hits()); }
});
on('moved', (before) => {
  if (!root) return;
  setSheet(false); // "back" on a phone closes the sheet
  if (before.query !== state.query) return; // the search opens the page in the address
  if (state.doc) open(state);
  else if (!state.query) shut();
});
on('screen', () => setTimeout(resize, 50));
export const visible = () => Boolean(root?.getClientRects().length); // offsetParent is null for the sheet
export const shows = ({ query, doc, page }) => Boolean(shown) && shown.query === query && shown.doc_id === doc && shown.page === page;
