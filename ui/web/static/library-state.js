// What the server has: asked once a page, again after each change, and every second while something loads.

import { get } from './api.js';
import { tell } from './state.js';

export let library = { state: 'loading', message: '', documents: 0, pages: 0, questions: [], collections: {}, tags: {} };
let timer = null;
let asking = null;

export function refresh() {
  asking ??= ask().finally(() => { asking = null; });
  return asking;
}

async function ask() {
  clearTimeout(timer);
  try {
    library = await get('library');
  } catch (error) {
    library = { ...library, state: 'away', message: error.message };
  }
  tell('library', library);
  if (library.state !== 'ready') timer = setTimeout(refresh, 1000);
}

// Until the library is open, or it is known that it cannot be.
export async function ready() {
  while (library.state !== 'ready' && library.state !== 'failed') {
    await refresh();
    if (library.state !== 'ready') await new Promise((done) => setTimeout(done, 500));
  }
}
