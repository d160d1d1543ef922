// Plots of two orders, as SVG: a slope chart, and the distribution of each stage's scores.

import { draw as svg, make, number } from './dom.js';

const ROW = 22;
const LABEL = 210; // of 640 wide

// pages: [{first_rank, rank, document, page, ...}], the reranked pages. Each line rises, falls or stays level.
export function slope(pages, choose) {
  const rows = Math.max(...pages.map((page) => Math.max(page.first_rank, page.rank)));
  const height = rows * ROW + 34;
  const y = (rank) => 34 + (rank - 0.5) * ROW;
  const label = (page) => `${page.document}, page ${page.page}: ${page.first_rank} → ${page.rank}`;
  const name = (page) => `${page.document.length > 24 ? `${page.document.slice(0, 22)}…` : page.document} p${page.page}`;
  const chart = svg('svg', { viewBox: `0 0 640 ${height}`, class: 'slope', role: 'group', 'aria-label': 'Slope chart of both orders' },
    svg('text', { x: LABEL, y: 14, 'text-anchor': 'end', class: 'axis' }, 'first stage'), svg('text', { x: 640 - LABEL, y: 14, class: 'axis' }, 'reranked'),
    ...pages.map((page) => {
      const kind = page.rank < page.first_rank ? 'up' : page.rank > page.first_rank ? 'down' : 'same';
      const line = svg('g', { class: `slope-line ${kind}`, 'data-page': page.page, 'data-doc': page.doc_id, tabindex: 0, role: 'link', 'aria-label': label(page) },
        svg('title', {}, label(page)),
        svg('text', { x: LABEL - 8, y: y(page.first_rank) + 4, 'text-anchor': 'end' }, `${name(page)}  ${page.first_rank}`),
        svg('path', { d: `M${LABEL} ${y(page.first_rank)} C ${320} ${y(page.first_rank)}, ${320} ${y(page.rank)}, ${640 - LABEL} ${y(page.rank)}` }),
        svg('circle', { cx: LABEL, cy: y(page.first_rank), r: 3.2 }), svg('circle', { cx: 640 - LABEL, cy: y(page.rank), r: 3.2 }),
        svg('text', { x: 640 - LABEL + 8, y: y(page.rank) + 4 }, `${page.rank}  ${name(page)}`));
      line.addEventListener('click', () => choose(page));
      line.addEventListener('keydown', (event) => event.key === 'Enter' && choose(page));
      return line;
    }));
  return chart;
}

// scores, best first: a dot for each page, a histogram above the dots, and a sentence on the gap between the best and the second best.
export function spread(title, scores, what) {
  const low = Math.min(...scores);
  const high = Math.max(...scores);
  const share = (score) => (high > low ? (score - low) / (high - low) : 0.5);
  const x = (score) => 14 + 452 * share(score);
  const bins = Array.from({ length: 24 }, (_, at) => scores.filter((score) => Math.min(23, Math.floor(share(score) * 24)) === at).length);
  const most = Math.max(...bins);
  const sorted = [...scores].sort((a, b) => b - a);
  const second = sorted.length > 2 ? share(sorted[1]) : 0;
  return make('div', { class: 'spread' }, make('div', { class: 'spread-title' }, make('b', {}, title), make('span', {}, what)),
    svg('svg', { viewBox: '0 0 480 64', role: 'img', 'aria-label': `${title}: from ${number(low, 3)} to ${number(high, 3)}` },
      ...bins.map((n, at) => n && svg('rect', { class: 'bin', x: 14 + at * 452 / 24 + 1, width: 452 / 24 - 2, y: 40 - 36 * n / most, height: 36 * n / most, rx: 2 })),
      svg('line', { class: 'base', x1: 8, x2: 472, y1: 48, y2: 48 }),
      ...scores.map((score, at) => svg('circle', { class: at === 0 ? 'dot best' : 'dot', cx: x(score), cy: 48, r: at === 0 ? 5 : 3.2 }, svg('title', {}, `${number(score, 3)}`)))),
    make('p', { class: 'hint' }, `From ${number(low, 2)} to ${number(high, 2)}. The second-best score lies at ${number(second * 100)}% of this range.`));
}
