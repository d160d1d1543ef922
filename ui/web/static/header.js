// The header: the size of the library or why it cannot be searched yet, light or dark, the keyboard shortcuts, the screens.

import { count, parts } from './dom.js';
import { library, refresh } from './library-state.js';
import { SCREENS, go, on, state, tell } from './state.js';

const NAMES = { search: 'Search', compare: 'Compare', library: 'Library' };
let part;

export function mount(element) {
  part = parts(element);
  element.addEventListener('click', (event) => {
    const act = event.target.closest('[data-act]')?.dataset.act;
    if (act === 'theme') localStorage.setItem('folioscope-theme', document.body.classList.toggle('dark') ? 'dark' : 'light');
    if (act === 'keys') showKeys();
  });
  const remembered = localStorage.getItem('folioscope-theme');
  if (remembered && !new URL(location.href).searchParams.has('__theme')) document.body.classList.toggle('dark', remembered === 'dark');
  draw();
  refresh();
  if (state.screen !== 'search') showScreen(state.screen);
}

export const showKeys = () => part('keys').open || part('keys').showModal();

const tab = (screen) => [...document.querySelectorAll('#screens [role=tab]')].find((node) => node.textContent.trim() === NAMES[screen]);

// Gradio draws the tabs. This clicks a tab as a reader would, as soon as it exists.
export function showScreen(screen, { push = false, tries = 40 } = {}) {
  const node = tab(screen);
  if (!node) return tries && setTimeout(() => showScreen(screen, { push, tries: tries - 1 }), 50);
  if (node.getAttribute('aria-selected') !== 'true') node.click();
  arrive(screen, push);
}

function arrive(screen, push) {
  const changed = state.screen !== screen;
  go({ screen }, { push: push && changed });
  if (changed) tell('screen', screen);
}

document.addEventListener('click', (event) => {
  const pressed = event.target.closest?.('#screens [role=tab]');
  const screen = pressed && SCREENS.find((name) => NAMES[name] === pressed.textContent.trim());
  if (screen) arrive(screen, true);
});

function draw() {
  if (!part) return;
  const { state: phase, message, documents, pages, device, user } = library;
  const gpu = device && device !== 'cpu' ? ` · ${device === 'auto' ? 'GPU if available' : device}` : '';
  part('stock').textContent = phase === 'ready' ? (documents ? `${count(documents, 'document')} · ${count(pages, 'page')}${gpu}` : '')
    : phase === 'loading' ? 'Loading the models…' : phase === 'away' ? 'The server is not responding' : message;
  part('stock').dataset.state = phase;
  part('account').hidden = !user;
  part('user').textContent = user ? `Log out ${user}` : '';
}

on('library', draw);
on('moved', (before) => before.screen !== state.screen && (showScreen(state.screen), tell('screen', state.screen)));
