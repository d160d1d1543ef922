const root = element.querySelector('.viewer');
const part = (name) => root.querySelector(`[data-part=${name}]`);
const COLOURS = ['#f5b800', '#2f9bff', '#2fbf71', '#c77dff', '#ff7a59', '#00b8b0', '#ff6fae', '#a3a300'];
const SVG = 'http://www.w3.org/2000/svg';
const MARGIN = 0.003; // of the page's width, around a lit word

let shown = null; // the view on screen
let wanted = 0; // the page last asked for: keys count from here, not from what has arrived
let turn = 0; // of several answers, only the last one asked for is drawn
let dark = new Set(); // words switched off, as written
let fit = 'page'; // 'page', 'width', or a factor of the width
const views = new Map();

function fetchView(query, doc, page) {
  const key = JSON.stringify([query, doc, page]);
  if (!views.has(key)) {
    if (views.size > 80) views.delete(views.keys().next().value);
    const answer = server.page_view({ query, doc, page });
    views.set(key, answer);
    answer.then((view) => view.problem && views.delete(key), () => views.delete(key));
  }
  return views.get(key);
}

async function open({ query, doc, page }, { push = false, user = false } = {}) {
  const mine = ++turn;
  wanted = page;
  if (shown && query !== shown.query) {
    dark = new Set();
    fit = 'page';
  }
  root.dataset.state = 'loading';
  const sheet = user && matchMedia('(max-width: 860px)').matches && !root.classList.contains('open');
  if (sheet) setSheet(true);
  let view;
  try {
    view = await fetchView(query, doc, page);
  } catch {
    view = { problem: 'The server did not answer. It may be starting again: try once more in a moment.' };
  }
  if (mine !== turn) return;
  if (view.problem) return fail(view.problem);
  wanted = view.page;
  draw(view);
  const url = address(view);
  if (push && (sheet || url.href !== location.href)) history.pushState(null, '', url);
  else if (url.href !== location.href) history.replaceState(null, '', url);
  document.title = `${query ? `${query} – ` : ''}Folioscope`;
  document.dispatchEvent(new CustomEvent('folio:shown', { detail: { doc: view.doc, page: view.page } }));
}

function draw(view) {
  shown = view;
  Object.assign(root.dataset, { doc: view.doc, page: view.page });
  part('name').textContent = view.name;
  part('name').title = view.title ? `${view.title} (${view.name})` : view.name;
  part('scan').hidden = !view.scanned;
  part('original').hidden = !view.original;
  if (view.original) part('original').href = `${view.original}#page=${view.page}`;
  part('number').value = view.page;
  part('of').textContent = `/ ${view.pages}`;
  root.querySelector('[data-act=previous]').disabled = view.page <= 1;
  root.querySelector('[data-act=next]').disabled = view.page >= view.pages;
  part('note').textContent = view.note;
  part('note').hidden = !view.note;
  part('blank').hidden = true;
  part('paper').hidden = false;
  drawHits();
  drawWords();
  drawLights();
  loadImage(view);
  setTimeout(() => shown === view && wanted === view.page && prefetch(view), 250);
  part('live').textContent = `Page ${view.page} of ${view.pages}, ${view.name}. ${view.note}`;
}

function prefetch(view) {
  for (const src of view.around) new Image().src = src;
  for (const page of [view.page + 1, view.page - 1]) {
    if (page >= 1 && page <= view.pages) fetchView(view.query, view.doc, page).catch(() => {});
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
  image.alt = `Page ${view.page} of ${view.name}`;
  resize();
  if (image.getAttribute('src') === view.image && image.complete && image.naturalWidth) ready();
  else image.src = view.image;
}

function drawHits() {
  const pages = hitPages();
  part('hits').hidden = pages.length < 2;
  part('hits').replaceChildren(make('span', {}, 'Hits here'), ...pages.map(({ page, rank }) =>
    make('button', { type: 'button', class: 'text', 'data-goto': page, title: `Result ${rank}`,
      'aria-current': page === shown.page && 'true' }, `p. ${page}`)));
}

const hitPages = () => folio.hits.filter((hit) => shown && hit.doc === shown.doc).sort((a, b) => a.page - b.page);

function drawWords() {
  const focused = document.activeElement?.dataset?.word;
  part('words').replaceChildren(...shown.terms.map((term, i) => {
    const found = term.count > 0;
    const how = !found ? 'nowhere on this page' : term.exact ? count(term.count, 'place')
      : `${count(term.count, 'passage')} near in meaning; the word itself is not on this page`;
    const chip = make('button', {
      type: 'button', class: found ? 'word' : 'word absent', 'data-word': term.term, title: how,
      'aria-pressed': String(found && !dark.has(term.term)), 'aria-disabled': !found && 'true', 'data-testid': 'word',
    }, make('i'), term.term, make('small', {}, !found ? 'not here' : term.exact ? String(term.count) : `≈${term.count}`));
    chip.style.setProperty('--light', COLOURS[i % COLOURS.length]);
    return chip;
  }));
  if (focused) part('words').querySelector(`[data-word=${CSS.escape(focused)}]`)?.focus();
}

function drawLights() {
  const marginX = MARGIN;
  const marginY = MARGIN * shown.ratio;
  part('lights').replaceChildren(...shown.terms.flatMap((term, i) => dark.has(term.term) ? [] :
    term.regions.map(([x0, y0, x1, y1, strength]) => {
      const light = document.createElementNS(SVG, 'rect');
      const attributes = { x: x0 - marginX, y: y0 - marginY, width: x1 - x0 + 2 * marginX, height: y1 - y0 + 2 * marginY,
        fill: COLOURS[i % COLOURS.length], 'fill-opacity': term.exact ? 0.25 + 0.6 * strength : 0.1 + 0.2 * strength, class: term.exact ? 'exact' : 'near',
        stroke: COLOURS[i % COLOURS.length], 'data-term': term.term };
      for (const [name, value] of Object.entries(attributes)) light.setAttribute(name, value);
      return light;
    })));
}

function fail(problem) {
  root.dataset.state = 'error';
  shown = null;
  part('paper').hidden = true;
  part('blank').hidden = false;
  part('blank').textContent = problem;
  for (const name of ['words', 'hits', 'lights']) part(name).replaceChildren();
  part('name').textContent = part('note').textContent = '';
  part('note').hidden = part('original').hidden = part('scan').hidden = true;
  part('live').textContent = problem;
}

function clear() {
  turn++;
  fail('The page that answers opens here, with what matches lit up.');
  root.dataset.state = 'empty';
  setSheet(false);
}

function setSheet(on) {
  root.classList.toggle('open', on);
  document.documentElement.classList.toggle('sheet-open', on);
}

function room() {
  const stage = part('stage');
  const style = getComputedStyle(stage);
  return { width: stage.clientWidth - 2 * parseFloat(style.paddingLeft), height: stage.clientHeight - 2 * parseFloat(style.paddingTop) };
}

function resize() {
  const panes = element.closest('#panes'); // both panes end where the window ends
  if (panes) document.documentElement.style.setProperty('--folio-top', `${Math.round(panes.getBoundingClientRect().top + scrollY)}px`);
  if (!shown) return;
  const image = part('image');
  const loaded = image.getAttribute('src') === shown.image && image.naturalWidth;
  const ratio = loaded ? image.naturalWidth / image.naturalHeight : shown.ratio;
  const { width, height } = room();
  if (width <= 0) return;
  const whole = Math.min(width, height * ratio);
  const drawn = fit === 'page' ? whole : fit === 'width' ? width : width * fit;
  part('paper').style.width = `${drawn}px`;
  part('paper').style.height = `${drawn / ratio}px`;
  part('zoom').textContent = fit === 'page' ? 'Page' : fit === 'width' ? 'Width' : `${Math.round(fit * 100)}%`;
}

function seek() {
  // Where the page is taller than the stage, begin at what matches best.
  const best = shown.terms.flatMap((term) => (dark.has(term.term) ? [] : term.regions)).sort((a, b) => b[4] - a[4])[0];
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

function goTo(page) {
  if (shown && page >= 1 && page <= shown.pages && page !== wanted) open({ query: shown.query, doc: shown.doc, page });
}

function nextHit(step) {
  const pages = hitPages().map((hit) => hit.page);
  const page = step > 0 ? pages.find((p) => p > wanted) : pages.findLast((p) => p < wanted);
  if (page) goTo(page);
  else part('live').textContent = `No ${step > 0 ? 'later' : 'earlier'} hit in this document`;
}

const acts = {
  previous: () => goTo(wanted - 1),
  next: () => goTo(wanted + 1),
  in: () => zoom(1.25),
  out: () => zoom(0.8),
  fit: () => { fit = fit === 'page' ? 'width' : 'page'; resize(); if (shown) seek(); },
  whole: () => { fit = 'page'; resize(); },
  lights: () => {
    const on = root.classList.toggle('unlit');
    root.querySelector('[data-act=lights]').setAttribute('aria-pressed', String(!on));
  },
  close: () => setSheet(false),
  keys: () => part('keys').showModal(),
  link: async (button) => {
    try {
      await navigator.clipboard.writeText(location.href);
      button.textContent = 'Copied';
    } catch {
      button.textContent = 'Copy the address bar';
    }
    setTimeout(() => { button.textContent = 'Copy link'; }, 1500);
  },
};

element.addEventListener('click', (event) => {
  const act = event.target.closest('[data-act]');
  if (act) acts[act.dataset.act](act);
  const hit = event.target.closest('[data-goto]');
  if (hit) goTo(Number(hit.dataset.goto));
  const word = event.target.closest('[data-word]');
  if (word && !word.classList.contains('absent')) {
    if (!dark.delete(word.dataset.word)) dark.add(word.dataset.word);
    drawWords();
    drawLights();
  }
});
part('number').addEventListener('change', (event) => {
  goTo(Math.max(1, Math.min(shown?.pages ?? 1, parseInt(event.target.value, 10) || wanted)));
  event.target.value = wanted;
});
const strength = () => part('lights').style.setProperty('opacity', part('light').value / 100);
part('light').addEventListener('input', strength);
strength();
part('stage').addEventListener('wheel', (event) => {
  if (!event.ctrlKey) return;
  event.preventDefault();
  zoom(event.deltaY < 0 ? 1.1 : 0.9);
}, { passive: false });

const KEYS = { ArrowLeft: acts.previous, ArrowRight: acts.next, '+': acts.in, '=': acts.in, '-': acts.out, 0: acts.whole,
  h: acts.lights, n: () => nextHit(1), N: () => nextHit(-1), j: () => folio.move?.(1), k: () => folio.move?.(-1),
  '?': acts.keys, Escape: acts.close };
const onKey = (event) => {
  const typing = event.target.closest?.('input:not([type=range]), textarea, select, [contenteditable=true], dialog');
  if (event.ctrlKey || event.metaKey || event.altKey || !element.isConnected) return;
  if (typing) {
    if (event.key === 'Escape') event.target.blur();
    return;
  }
  if (event.key === '/') {
    event.preventDefault();
    setSheet(false);
    const box = document.querySelector('#question textarea, #question input');
    box?.focus();
    box?.select();
  } else if (KEYS[event.key] && root.offsetParent !== null && !(event.target.type === 'range' && event.key.startsWith('Arrow'))) {
    event.preventDefault();
    KEYS[event.key]();
  }
};
const onPop = () => setSheet(false); // "back" on a phone leaves the sheet
folio.offViewer?.(); // this script runs anew when the page is rebuilt
document.addEventListener('keydown', onKey);
document.addEventListener('folio:keys', acts.keys);
window.addEventListener('popstate', onPop);
folio.offViewer = () => {
  document.removeEventListener('keydown', onKey);
  document.removeEventListener('folio:keys', acts.keys);
  window.removeEventListener('popstate', onPop);
};
const watcher = new ResizeObserver(resize);
watcher.observe(part('stage'));
watcher.observe(document.querySelector('#options') ?? root);
folio.open = open;
folio.clear = clear;
folio.dim = (query) => { if (shown && shown.query !== query) root.dataset.state = 'loading'; };
if (folio.wanted) {
  open(...folio.wanted);
  folio.wanted = null;
}
