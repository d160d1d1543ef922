// All keyboard shortcuts. None of them acts while the reader is typing.

import { focusQuestion } from './ask.js';
import { showKeys, showScreen } from './header.js';
import { move } from './results.js';
import { acts, visible } from './viewer.js';

const VIEWER = { ArrowLeft: acts.previous, ArrowRight: acts.next, '[': acts.previous, ']': acts.next, Home: acts.first, End: acts.last,
  '+': acts.in, '=': acts.in, '-': acts.out, 0: acts.whole, w: acts.width, b: acts.boxes, h: acts.heat, u: acts.up, d: acts.down,
  n: acts['next-hit'], N: acts['previous-hit'], Escape: acts.close };
const SCREENS = { s: 'search', c: 'compare', l: 'library' };
let afterG = false; // "g" has been pressed

document.addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.closest?.('input:not([type=range], [type=checkbox]), textarea, select, [contenteditable=true], dialog[open]');
  if (typing) {
    if (event.key === 'Escape' && !typing.matches('dialog')) event.target.blur();
    return;
  }
  const act = action(event);
  if (!act) return;
  event.preventDefault();
  act();
});

function action({ key, target }) {
  if (afterG) {
    afterG = false;
    if (SCREENS[key]) return () => showScreen(SCREENS[key], { push: true });
  }
  if (key === 'g') return () => { afterG = true; setTimeout(() => { afterG = false; }, 1500); };
  if (key === '?') return showKeys;
  if (key === '/') return () => { acts.close(); showScreen('search'); setTimeout(focusQuestion, 0); };
  const inRange = target.type === 'range' && key.startsWith('Arrow');
  const inTabs = target.matches?.('[role=tab]') && key.startsWith('Arrow');
  if (!visible() && key !== 'j' && key !== 'k') return null;
  if (inRange || inTabs) return null;
  if (key === 'j' || key === 'k') return document.querySelector('.results')?.offsetParent ? () => move(key === 'j' ? 1 : -1) : null;
  return VIEWER[key];
}
