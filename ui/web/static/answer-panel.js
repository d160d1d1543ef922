// The written answer, between the words that answer and the pages: it arrives in pieces, each sentence with chips for its quotes. A chip opens its page with the quote lit.

import { events, get } from './api.js';
import { count, draw as svg, make, parts } from './dom.js';
import { library } from './library-state.js';
import { found } from './search.js';
import { on, question, state } from './state.js';
import { open } from './viewer.js';

const PROBLEMS = {
  not_found: 'not found on the page',
  no_quote: 'without a quote',
  no_such_page: 'names a page that was not read',
  number: 'a number is not in its quote',
  negation: 'the quote says “not” elsewhere',
  unchecked: 'read from a picture, not checked',
};
const MATCHES = {
  exact: 'The quote is on this page',
  fuzzy: 'The quote is on this page, with small differences',
  image_only: 'Region by similarity, not a quote: there are no words to compare with',
};
const MARGIN = 0.004; // of the page's width, around a lit quote

let root;
let part;
let key = ''; // the question that the panel is about
let answer = null; // what is shown: text, citations, pages and, when it is complete, status and message
let running = null; // AbortController of the stream
let problem = '';
let lit = null; // the citation whose quote is lit in the viewer
let seeks = false; // whether the viewer still has to scroll to it

export function mount(element) {
  root = element.querySelector('.written');
  part = parts(root);
  root.addEventListener('click', onClick);
  update();
}

// Shows the panel of the current question, with its stored answer if there is one.
async function update() {
  if (!root) return;
  const wanted = library.answers && state.query && ['first', 'ready'].includes(found.phase) ? JSON.stringify(question()) : '';
  if (wanted === key) return;
  stop();
  key = wanted;
  answer = null;
  problem = '';
  light(null);
  draw();
  if (!key) return;
  let stored;
  try {
    stored = await get('answers', question());
  } catch {
    return; // the button remains
  }
  if (wanted !== key || running || answer) return;
  if (stored.answers.length) {
    [answer] = stored.answers;
    draw();
  } else if (stored.running.length) follow('GET', `answer/${encodeURIComponent(stored.running[0])}`);
}

function ask() {
  const { document: documents, collection: collections, tag: tags, since, until, scanned } = state.filters;
  follow('POST', 'answer', {
    query: state.query, documents, collections, tags, since, until, scanned: scanned === '' ? null : scanned === 'true', rerank: state.rerank, stream: true,
  });
}

async function follow(method, path, body) {
  stop();
  const own = (running = new AbortController());
  answer = { text: '', citations: [], pages: [] };
  problem = '';
  light(null);
  draw();
  try {
    for await (const [name, value] of events(method, path, body, { signal: own.signal })) {
      if (own !== running) return;
      if (name === 'pages') answer.pages = value.pages;
      if (name === 'delta') answer.text += value.text;
      if (name === 'citation') answer.citations.push(value);
      if (name === 'done') answer = value;
      draw();
    }
  } catch (error) {
    if (own !== running || error.name === 'AbortError') return;
    problem = error.message;
  }
  running = null;
  if (!answer.status && !problem) problem = 'The answer broke off. Ask again.';
  draw();
}

function stop() {
  running?.abort();
  running = null;
}

function draw() {
  root.hidden = !key;
  const phase = problem ? 'failed' : running ? 'writing' : answer ? 'done' : 'idle';
  Object.assign(root.dataset, { state: key ? phase : 'off', status: answer?.status ?? '' });
  part('written-button').textContent = answer || problem ? 'Answer again' : 'Answer';
  part('written-button').disabled = phase === 'writing';
  part('written-button').classList.toggle('small', phase !== 'idle');
  say(status(phase));
  part('written-text').replaceChildren(...(answer ? sentences(answer) : []));
  part('written-pages').replaceChildren(...(answer ? cited(answer) : []));
  part('written-notes').replaceChildren(...(answer?.notes ?? []).map(({ text }) => make('p', { class: 'note' }, text)));
}

function say(text) {
  if (part('written-status').textContent !== text) part('written-status').textContent = text;
}

function status(phase) {
  if (phase === 'failed') return problem;
  if (phase === 'idle') return `${library.answers} reads the best pages; every quote is looked up on its page.`;
  if (phase === 'writing') return answer.pages.length ? `${library.answers} reads ${count(answer.pages.length, 'page')}…` : 'Searching…';
  return answer.message;
}

// The text as sentences with their marks. What follows the last citation is still being written.
function sentences({ text, citations }) {
  const nodes = [];
  let at = 0;
  const spans = new Map();
  citations.forEach((citation, i) => {
    const span = `${citation.start}-${citation.end}`;
    spans.set(span, [...(spans.get(span) ?? []), [citation, i]]);
  });
  for (const group of spans.values()) {
    const [{ start, end }] = group[0];
    const holds = group.every(([citation]) => citation.verified);
    nodes.push(text.slice(at, start), make('span', { class: holds ? 'claim' : 'claim doubtful', 'data-testid': 'claim' }, text.slice(start, end)));
    nodes.push(...group.filter(([citation]) => citation.match !== 'none').map(([citation, i]) => chip(citation, i)));
    const problems = [...new Set(group.flatMap(([citation]) => citation.problems))];
    if (problems.length) nodes.push(make('span', { class: 'doubt', 'data-testid': 'doubt' }, problems.map((name) => PROBLEMS[name]).join(', ')));
    at = end;
  }
  if (at < text.length) nodes.push(make('span', { class: 'claim doubtful' }, text.slice(at)));
  return nodes;
}

function chip(citation, i) {
  const { n, page, match, verified, page_name: name, cited_text: quote } = citation;
  return make('button', {
    type: 'button', class: `cite ${match}${verified ? '' : ' doubtful'}`, 'data-cite': i, 'data-testid': 'cite', 'aria-pressed': String(lit === citation),
    'aria-label': `Open ${name} at this quote`, title: `${name}: “${quote}”. ${MATCHES[match]}.`,
  }, String(n ?? page));
}

// The pages that the answer cites, or, for a refusal, the closest ones.
function cited({ status: kind, pages, citations }) {
  const numbers = new Set(citations.filter(({ match }) => match !== 'none').map(({ n }) => n));
  return pages.filter(({ n }) => numbers.has(n) || kind === 'refused').map(({ n, thumb, page_name: name, doc_id: doc, page }) =>
    make('li', {}, make('button', { type: 'button', class: 'written-page', 'data-open': doc, 'data-page': page, 'data-testid': 'written-page' },
      make('span', { class: 'cite-number' }, String(n)), thumb && make('img', { src: thumb, alt: '', loading: 'lazy' }), make('span', {}, name))));
}

function onClick(event) {
  const button = event.target.closest('button');
  if (!button) return;
  if (button.dataset.act === 'answer') ask();
  if (button.dataset.open) {
    light(answer.citations.find(({ doc_id: doc, page, boxes }) => doc === button.dataset.open && page === Number(button.dataset.page) && boxes.length) ?? null);
    open({ doc: button.dataset.open, page: Number(button.dataset.page) }, { push: true, user: true });
  }
  if (button.dataset.cite) {
    const citation = answer.citations[button.dataset.cite];
    light(citation);
    open({ doc: citation.doc_id, page: citation.page }, { push: true, user: true });
  }
}

// Chooses the citation to light; the viewer draws it as soon as it shows its page.
function light(citation) {
  lit = citation;
  seeks = Boolean(citation);
  for (const node of root.querySelectorAll('[data-cite]')) node.setAttribute('aria-pressed', String(answer?.citations[node.dataset.cite] === lit));
  overlay();
}

function overlay() {
  const paper = document.querySelector('.viewer [data-part=paper]');
  paper?.querySelector('.quote-lights')?.remove();
  if (!paper || !lit || state.doc !== lit.doc_id || state.page !== lit.page) return;
  const { width, height } = paper.getBoundingClientRect();
  const marginY = MARGIN * (height ? width / height : 1);
  paper.append(svg('svg', { class: 'quote-lights', viewBox: '0 0 1 1', preserveAspectRatio: 'none', 'data-testid': 'quote', 'aria-hidden': 'true' },
    lit.boxes.map(([x0, y0, x1, y1]) => svg('rect', {
      class: lit.match, x: x0 - MARGIN, y: y0 - marginY, width: x1 - x0 + 2 * MARGIN, height: y1 - y0 + 2 * marginY,
    }))));
  seek();
}

// Scrolls the viewer to the lit quote, once the page's image has its size.
function seek() {
  const viewer = document.querySelector('.viewer');
  const box = document.querySelector('.quote-lights rect');
  if (!seeks || !box || viewer.dataset.state !== 'ready') return;
  seeks = false;
  const stage = viewer.querySelector('[data-part=stage]');
  const [at, view] = [box.getBoundingClientRect(), stage.getBoundingClientRect()];
  stage.scrollBy(at.left + at.width / 2 - view.left - view.width / 2, at.top + at.height / 2 - view.top - view.height / 2);
}

on('results', update);
on('library', update);
on('shown', () => {
  if (!root || !lit) return;
  overlay();
  const viewer = document.querySelector('.viewer');
  const watcher = new MutationObserver(() => {
    if (viewer.dataset.state !== 'ready') return;
    watcher.disconnect();
    seek();
  });
  watcher.observe(viewer, { attributeFilter: ['data-state'] });
});
