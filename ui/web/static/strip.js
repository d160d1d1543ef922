// The strip of a document's pages: the pages around the current one, and every page in the results.

import { make } from './dom.js';

const AROUND = 12;

export function drawStrip(box, view, hits) {
  const ranks = new Map(hits.map(({ page, rank }) => [page, rank]));
  const near = (n) => Math.abs(n - view.page) <= AROUND;
  const pages = [...new Set([1, view.pages, ...ranks.keys(), ...Array.from({ length: 2 * AROUND + 1 }, (_, i) => view.page - AROUND + i)])]
    .filter((n) => n >= 1 && n <= view.pages).sort((a, b) => a - b);
  box.hidden = view.pages < 2;
  const key = JSON.stringify([view.doc_id, pages, [...ranks]]);
  if (box.dataset.key !== key) {
    box.dataset.key = key;
    box.replaceChildren(...pages.flatMap((n, i) => [
      i > 0 && n - pages[i - 1] > 1 ? make('span', { class: 'gap', 'aria-hidden': 'true' }, '…') : '',
      leaf(view, n, ranks.get(n)),
    ]).filter(Boolean));
  }
  for (const leaf of box.querySelectorAll('[data-goto]')) {
    if (Number(leaf.dataset.goto) === view.page) leaf.setAttribute('aria-current', 'page');
    else leaf.removeAttribute('aria-current');
  }
  const current = box.querySelector('[aria-current]');
  if (current) box.scrollTo({ left: current.offsetLeft - box.clientWidth / 2 + current.clientWidth / 2, behavior: near(view.page) ? 'auto' : 'smooth' });
}

const leaf = (view, n, rank) => make('button', { type: 'button', class: rank ? 'leaf hit' : 'leaf', 'data-goto': n, title: rank ? `Page ${n}, result ${rank}` : `Page ${n}`,
  'aria-label': rank ? `Page ${n}, result ${rank}` : `Page ${n}` },
make('img', { src: thumb(view, n), alt: '', loading: 'lazy' }), make('span', {}, String(n)), rank && make('b', {}, String(rank)));

const thumb = (view, n) => view.image.replace(`/${view.page}.webp`, `/${n}.thumb.webp`);
