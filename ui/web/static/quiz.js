// "Would you have predicted it?": the reader guesses which page answers a sample question, then sees how each stage ranked the pages.

import { get } from './api.js';
import { make } from './dom.js';

const OPTIONS = 4;
let examples = null;
let at = 0;
const score = { rounds: 0, you: 0, first: 0, reranked: 0 };

export async function drawQuiz(panel) {
  if (!examples) {
    try {
      examples = await get('examples');
    } catch {
      examples = null;
      return;
    }
  }
  panel.hidden = !examples.length;
  if (!panel.hidden && !panel.childElementCount) await next(panel);
}

async function next(panel) {
  const { query, answers } = examples[at++ % examples.length];
  let value;
  try {
    value = await get('search', { q: query, top: 20, candidates: true });
  } catch (error) {
    return panel.replaceChildren(make('p', {}, error.message), make('button', { type: 'button', class: 'button small', onclick: () => next(panel) }, 'Try again'));
  }
  const right = (page) => answers.some((answer) => answer.doc_id === page.doc_id && answer.page === page.page);
  const first = [...value.candidates].sort((a, b) => a.first_rank - b.first_rank);
  const best = value.candidates.find((page) => page.rank === 1);
  if (!best) return;
  const answer = value.candidates.find(right);
  const options = [...new Set([first[0], best, answer, ...first].filter(Boolean))].slice(0, OPTIONS);
  options.sort((a, b) => (a.doc_id + a.page < b.doc_id + b.page ? -1 : 1)); // an order that gives nothing away
  const cards = options.map((page) => make('button', { type: 'button', class: 'guess', 'data-testid': 'guess', onclick: () => reveal(page) },
    make('img', { src: page.thumb, alt: '' }), make('span', {}, `${page.document}, page ${page.page}`)));
  const verdictLine = make('p', { class: 'verdict', role: 'status' });
  panel.replaceChildren(make('h3', {}, 'Would you have predicted it?'), make('p', {}, 'The answer to this question is known. Which of these pages has it? ', make('q', {}, query)),
    make('div', { class: 'guesses' }, ...cards), verdictLine);

  function reveal(page) {
    score.rounds++;
    score.you += right(page);
    score.first += right(first[0]);
    score.reranked += right(best);
    const verdict = (ok) => (ok ? 'right' : 'wrong');
    cards.forEach((card, i) => {
      card.disabled = true;
      if (right(options[i])) card.classList.add('right');
      if (options[i] === page) card.classList.add('chosen');
      card.append(make('small', {}, `first stage ${options[i].first_rank} · reranked ${options[i].rank}`));
    });
    verdictLine.replaceChildren(`You: ${verdict(right(page))}. First stage: ${verdict(right(first[0]))}. Reranked: ${verdict(right(best))}. `,
      `So far, of ${score.rounds}: you ${score.you}, first stage ${score.first}, reranked ${score.reranked}. `,
      make('button', { type: 'button', class: 'button small', onclick: () => next(panel) }, 'Another question'));
  }
}
