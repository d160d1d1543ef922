// Runs one search at a time: shows the first stage's order as soon as it arrives, then the reranked order.

import { lines } from './api.js';
import { library, ready, refresh } from './library-state.js';
import { go, question, state, tell } from './state.js';

const PAGE = 10;
const TRIES = 6;
const pause = (ms) => new Promise((done) => setTimeout(done, ms));
const REST_MS = 600_000; // the most milliseconds that the server gives the reranker
// budget: milliseconds for the reranker, null for the profile's own. reading: the rest of the shortlist is being read.
export const found = { phase: 'none', value: null, top: PAGE, message: '', budget: null, reading: false };
let running = null;

const change = (phase, more = {}) => {
  Object.assign(found, { phase, message: '', reading: false }, more);
  tell('results', found);
};

// The phase is one of: none, waiting (nothing to show yet), first (the first stage's order), ready, failed.
export async function search({ top = PAGE, keep = false, budget = keep ? found.budget : null } = {}) {
  running?.abort();
  const own = (running = new AbortController());
  if (!state.query.trim()) return change('none', { value: null });
  if (!keep) change('waiting', { value: null, top });
  Object.assign(found, { top, budget });
  for (let tries = 0; ; tries++) {
    try {
      for await (const value of lines('search', question({ top, candidates: true, budget_ms: budget ?? '' }), { signal: own.signal })) {
        if (own !== running) return;
        if (value.provisional && keep) continue;
        change(value.provisional ? 'first' : 'ready', { value });
      }
      return;
    } catch (error) {
      if (own !== running || error.name === 'AbortError') return;
      if ((error.status === 0 || error.status === 503) && tries < TRIES) {
        change('waiting', { value: null, message: error.message });
        await refresh();
        if (library.state === 'ready') await pause(500 * 2 ** tries); // the server is up, yet this search failed
        await ready();
        if (own !== running) return;
        if (library.state === 'failed') return change('failed', { value: null, message: library.message });
        continue;
      }
      if (error.status === 429 && tries < TRIES) {
        change('waiting', { value: found.value, message: error.message });
        await pause(1000 + 1000 * Math.random());
        if (own !== running) return;
        continue;
      }
      return change('failed', { value: null, message: error.message });
    }
  }
}

export const more = () => search({ top: found.top + PAGE, keep: true });

// Reranks all pages of the shortlist, without a time limit.
export function readRest() {
  change(found.phase, { reading: true });
  return search({ top: found.top, keep: true, budget: REST_MS });
}

// Starts a new question, or the same question with other filters; the viewer opens the best page again.
export function ask(change) {
  go({ doc: '', page: 1, ...change }, { push: true });
  return search();
}
