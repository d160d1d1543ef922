// Shows both stages side by side for the current question, and the gain from reranking by the readers' own judgements.

import { get } from './api.js';
import { submit } from './ask.js';
import { count, make, number, parts } from './dom.js';
import { showScreen } from './header.js';
import { library } from './library-state.js';
import { slope, spread } from './plots.js';
import { drawQuiz } from './quiz.js';
import { found } from './search.js';
import { on, state } from './state.js';
import { open } from './viewer.js';

const SHOWN = 20; // lines of the slope chart
let root;
let part;

export function mount(element) {
  root = element.querySelector('.compare');
  part = parts(root);
  root.addEventListener('click', (event) => {
    const { question, go } = event.target.closest('button')?.dataset ?? {};
    if (question) submit(question);
    if (go) showScreen(go, { push: true });
  });
  draw();
  if (state.screen === 'compare') {
    drawLift();
    drawQuiz(part('quiz'));
  }
}

function draw() {
  if (!part) return;
  const { phase, value } = found;
  root.dataset.state = phase;
  const moved = phase === 'ready' && value.reranked ? value.candidates.filter((page) => page.rerank != null) : [];
  part('lead').replaceChildren(...lead(phase, value, moved));
  for (const name of ['slope', 'spread', 'time', 'moves']) part(`${name}-panel`).hidden = name === 'time' ? phase !== 'ready' || !value.hits.length : moved.length < 2;
  part('tiles').replaceChildren(...(moved.length > 1 ? tiles(value, moved) : []));
  if (phase === 'ready' && value.hits.length) drawTime(value);
  if (moved.length < 2) return;
  const choose = (page) => {
    showScreen('search', { push: true });
    open({ doc: page.doc_id, page: page.page }, { user: true });
  };
  part('slope').replaceChildren(slope(moved.filter((page) => Math.min(page.first_rank, page.rank) <= SHOWN), choose));
  const first = value.candidates.map((page) => page.first).sort((a, b) => b - a);
  const rerank = [...moved].sort((a, b) => b.rerank - a.rerank).map((page) => page.rerank);
  part('spread').replaceChildren(
    spread('First stage', first, count(first.length, 'candidate')), spread('Cross-encoder', rerank, `${count(rerank.length, 'reranked page')}`));
  drawMoves(moved, choose);
}

function lead(phase, value, moved) {
  const example = (text) => make('button', { type: 'button', class: 'example', 'data-question': text }, text);
  if (phase === 'waiting' || phase === 'first') return ['Searching…'];
  if (phase === 'failed') return [found.message];
  if (phase !== 'ready') return [library.documents ? 'Ask a question, on the Search screen or here: ' : 'Add documents, then ask a question: both orders appear here side by side.', ...library.questions.slice(0, 3).map(example)];
  if (moved.length > 1) return [make('q', {}, value.query), ` ${value.decision.text}.`];
  return [make('q', {}, value.query), ` ${value.decision.text}: there is only one order to show.`];
}

function tiles(value, moved) {
  const ten = moved.filter((page) => page.rank <= 10);
  const stayed = ten.filter((page) => page.first_rank <= 10).length;
  const climb = [...moved].sort((a, b) => (b.first_rank - b.rank) - (a.first_rank - a.rank))[0];
  const best = moved.find((page) => page.rank === 1);
  const tile = (figure, label, more) => make('div', { class: 'tile' }, make('b', {}, figure), make('span', {}, label), more && make('small', {}, more));
  return [
    tile(best.first_rank === 1 ? 'same' : `from ${best.first_rank}`, 'the best page', best.first_rank === 1 ? 'both stages agree on it' : `the first stage ranked it ${best.first_rank}`),
    tile(`${stayed} of ${ten.length}`, 'of the top 10 stayed there', `${ten.length - stayed} came from below`),
    tile(climb.first_rank > climb.rank ? `▲${climb.first_rank - climb.rank}` : '0', 'largest climb', `${climb.document}, page ${climb.page}`),
    tile(number(kendall(moved), 2), 'agreement between the orders', 'Kendall’s τ: 1 identical, 0 unrelated, −1 reversed'),
  ];
}

function kendall(pages) {
  let sum = 0;
  for (let i = 0; i < pages.length; i++) {
    for (let j = 0; j < i; j++) sum += Math.sign((pages[i].first_rank - pages[j].first_rank) * (pages[i].rank - pages[j].rank));
  }
  return sum / (pages.length * (pages.length - 1) / 2);
}

function drawTime({ stages }) {
  const all = stages.reduce((sum, stage) => sum + stage.ms, 0) || 1;
  part('time').replaceChildren(make('div', { class: 'times' }, ...stages.map(({ name, ms, pages }) => {
    const bar = make('i');
    bar.style.width = `${Math.max(1, ms / all * 100)}%`;
    const each = name === 'rerank' && pages ? `, ${number(ms / pages, 1)} ms per page` : '';
    return make('div', { class: 'time' }, make('span', {}, name), make('span', { class: 'bar long' }, bar), make('span', {}, `${number(ms, ms < 10 ? 1 : 0)} ms · ${number(pages)} pages${each}`));
  })));
}

function drawMoves(moved, choose) {
  const into = moved.filter((page) => page.rank <= 10 && page.first_rank > 10);
  const out = moved.filter((page) => page.rank > 10 && page.first_rank <= 10);
  const row = (page) => make('button', { type: 'button', class: 'mover', onclick: () => choose(page) }, make('img', { src: page.thumb, alt: '', loading: 'lazy' }),
    make('span', {}, `${page.document}, page ${page.page}`), make('small', {}, `${page.first_rank} → ${page.rank}`));
  const list = (title, pages) => [make('h3', {}, title), ...(pages.length ? pages.map(row) : [make('p', { class: 'hint' }, 'none')])];
  part('moves').replaceChildren(make('div', {}, ...list('Promoted', into)), make('div', {}, ...list('Demoted', out)));
}

async function drawLift() {
  if (!part) return;
  let value;
  try {
    value = await get('judgements');
  } catch {
    return;
  }
  const { lift, judged, enough } = value;
  const panel = part('lift-panel');
  const title = [make('h3', {}, 'Did it help?'), make('p', { class: 'hint' }, 'Movement is not quality. The gain from reranking is computed from the pages that readers judged with thumbs up or down.')];
  if (!judged.length) return panel.replaceChildren(...title, make('p', {}, 'No page has a thumbs up yet. Judge a page with the thumbs above it on the Search screen.'));
  const percent = (x) => number(x * 100, 1);
  const signed = (x) => `${x >= 0 ? '+' : '−'}${percent(Math.abs(x))}`;
  const row = (l) => make('tr', {}, make('th', { scope: 'row' }, l.measure), make('td', {}, percent(l.first)), make('td', {}, percent(l.final)),
    make('td', {}, `${signed(l.difference)} (${signed(l.low)} to ${signed(l.high)})`), make('td', {}, `${l.wins} / ${l.ties} / ${l.losses}`), make('td', {}, l.p < 0.001 ? '< .001' : number(l.p, 3)));
  panel.replaceChildren(...title,
    judged.length < enough ? make('p', { class: 'note', 'data-testid': 'few' }, `${count(judged.length, 'judged question')} so far: with fewer than about ${enough}, even a large difference may be chance.`) : '',
    make('table', { class: 'table' }, make('thead', {}, make('tr', {}, ...['× 100', 'first stage', 'reranked', 'difference (95% interval)', 'wins / ties / losses', 'p'].map((text) => make('th', { scope: 'col' }, text)))),
      make('tbody', {}, ...lift.map(row))),
    make('details', {}, make('summary', {}, `The ${count(judged.length, 'judged question')}`), make('ul', { class: 'judged-list' }, ...judged.map((q) =>
      make('li', {}, make('button', { type: 'button', class: 'link', 'data-question': q.query }, q.query), make('span', {}, ` ${count(q.up, 'page')} up, ${number(q.down)} down · nDCG@10 ${percent(q.first)} → ${percent(q.final)}`))))),
    make('p', {}, make('a', { class: 'link', href: 'api/v1/judgements.txt', download: true }, 'Export all judgements')));
}

on('results', draw);
on('library', draw);
on('judged', drawLift);
on('screen', (screen) => {
  if (screen !== 'compare') return;
  drawLift();
  if (part) drawQuiz(part('quiz'));
});
