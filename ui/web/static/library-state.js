// The state of the library: fetched once per page load, again after each change, and every second while the models load.

import { get } from './api.js';
import { tell } from './state.js';

export let library = { state: 'loading', message: '', documents: 0, pages: 0, questions: [], collections: {}, tags: {} };
let timer = null;
let pending = null;

export function refresh() {
  pending ??= fetchLibrary().finally(() => { pending = null; });
  return pending;
}

async function fetchLibrary() {
  clearTimeout(timer);
  try {
    library = await get('library');
  } catch (error) {
    library = { ...library, state: 'away', message: error.message };
  }
  tell('library', library);
  if (library.state !== 'ready') timer = setTimeout(refresh, 1000);
}

// Resolves when the library is open, or when the server reports that it cannot be opened.
export async function ready() {
  while (library.state !== 'ready' && library.state !== 'failed') {
    await refresh();
    if (library.state !== 'ready') await new Promise((done) => setTimeout(done, 500));
  }
}
