const root = element.querySelector('.results');
const part = (name) => root.querySelector(`[data-part=${name}]`);
let opened = ''; // the question for which the reader has opened a page: it is not taken away again

function draw() {
  const value = props.value || { query: '' };
  folio.query = value.query;
  folio.hits = (value.cards || []).map(({ doc, page, rank }) => ({ doc, page, rank }));
  const asked = Boolean(value.query);
  root.dataset.state = !asked ? 'home' : value.problem ? 'error' : value.provisional ? 'first' : 'ready';
  part('status').replaceChildren(...(asked ? status(value) : []));
  drawWhy(value);
  part('notes').replaceChildren(...(value.notes || []).map((note) => make('p', { class: 'note' }, note)));
  part('cards').replaceChildren(...(value.cards || []).map((card) => drawCard(card, value.query)));
  drawHome(asked);
  if (value.provisional) folio.dim?.(value.query); // what is lit belongs to the question before
  else show(value);
}

function status(value) {
  if (value.problem) return [make('p', { class: 'problem', 'data-testid': 'problem' }, value.problem)];
  return [make('p', {}, value.status), value.provisional && make('p', { class: 'working' }, 'Reading the best ones again…')]
    .filter(Boolean);
}

function drawWhy(value) {
  const why = part('why');
  why.hidden = !value.decision;
  if (why.hidden) return;
  part('decision').textContent = value.decision;
  part('stages').replaceChildren(
    make('ul', {}, ...value.stages.map(({ name, ms, note }) =>
      make('li', {}, make('b', {}, name), ` ${ms.toLocaleString('en')} ms`, note && make('span', {}, ` · ${note}`)))),
    make('p', {}, value.rerank
      ? '▲ and ▼ say how far a page moved from its place in the first stage. The bar is its score, relative to this list.'
      : 'The bar is the page’s score, relative to this list.'));
}

function drawCard(card, query) {
  const link = make('a', {
    class: 'card', href: address({ query, doc: card.doc, page: card.page }).search, 'data-testid': 'result-card',
    'data-doc': card.doc, 'data-page': card.page, 'data-rank': card.rank,
  },
  make('span', { class: card.wide ? 'thumb wide' : 'thumb' },
    make('img', { src: card.thumb, loading: 'lazy', alt: `Page ${card.page} of ${card.name}` }),
    make('span', { class: 'rank' }, String(card.rank))),
  make('span', { class: 'body' },
    make('span', { class: 'name', title: card.title ? `${card.title} (${card.name})` : card.name }, card.name),
    make('span', { class: 'where' }, `page ${card.page} of ${card.pages}`,
      card.scanned && make('span', { class: 'badge' }, 'scan')),
    make('span', { class: 'snippet', dir: 'auto' },
      ...card.snippet.map(([text, bold]) => (bold ? make('mark', {}, text) : text))),
    make('span', { class: 'score' }, bar(card), movement(card))));
  return make('li', {}, link);
}

function bar(card) {
  const scores = card.scores.map(([name, score]) => `${name} ${score}`).join(' · ');
  const fill = make('i');
  fill.style.width = `${Math.round(card.bar * 100)}%`;
  return make('span', { class: 'bar', role: 'img', 'aria-label': `relative score ${Math.round(card.bar * 100)}%`,
    title: `Relative to this list. ${scores}` }, fill);
}

function movement({ moved, first_rank: first }) {
  if (moved == null) return null;
  const [kind, text] = moved > 0 ? ['up', `▲${moved}`] : moved < 0 ? ['down', `▼${-moved}`] : ['same', '='];
  return make('span', { class: 'moves', title: `Rank ${first} in the first stage, before reranking` },
    make('span', { class: `chip ${kind}`, 'data-testid': 'moved' }, text),
    make('span', { class: 'first' }, `first stage rank ${first}`));
}

function drawHome(asked) {
  const home = props.home || {};
  const listed = home.choices < home.documents ? `In all documents (the newest ${home.choices} are listed)` : 'In all documents';
  document.querySelector('#only input')?.setAttribute('placeholder', listed); // Gradio has no setting for it
  const box = part('home');
  box.hidden = asked || home.documents === undefined;
  if (box.hidden) return;
  const button = (act, text, primary) =>
    make('button', { type: 'button', class: primary ? 'button primary' : 'button', 'data-act': act }, text);
  if (home.documents) {
    box.replaceChildren(
      make('h2', {}, 'Ask for the page you need'),
      make('p', {}, 'In your own words: text, tables, charts and scans are searched alike, and the places that match are lit up.'),
      make('p', { class: 'try' }, home.questions.length > 0 && 'For example'),
      make('ul', { class: 'examples' }, ...home.questions.map((question) =>
        make('li', {}, make('button', { type: 'button', class: 'example', 'data-question': question }, question)))));
  } else if (home.busy) {
    box.replaceChildren(make('h2', {}, 'Reading your documents…'),
      make('p', {}, 'The first of them can be searched as soon as it is done.'),
      button('documents', 'Show progress'));
  } else {
    box.replaceChildren(make('h2', {}, 'Your library is empty'),
      make('p', {}, 'Add PDFs or images: reports, scans, slides, forms. They stay on this machine.'),
      make('p', { class: 'acts' }, button('documents', 'Add documents', true),
        home.samples > 0 && button('samples', `Try the ${home.samples} samples`)),
      make('p', { class: 'hint' }, 'Whole folders are read faster from the command line: ', make('code', {}, 'folioscope ingest FOLDER')));
  }
}

function show(value) {
  const first = folio.hits[0];
  const target = value.show || (first && { doc: first.doc, page: first.page });
  if (target && (value.show || opened !== value.query)) {
    const asked = new URL(location.href).searchParams.get('q') || '';
    openPage({ ...target, query: value.query }, { push: asked !== value.query, user: Boolean(value.show) });
  } else if (!target && value.query) {
    folio.clear?.();
    history.replaceState(null, '', address({ query: value.query }));
  }
}

function choose(card) {
  opened = folio.query;
  openPage({ query: folio.query, doc: card.dataset.doc, page: Number(card.dataset.page) }, { push: true, user: true });
}

function ask(question) {
  const box = document.querySelector('#question textarea, #question input');
  if (box) box.value = question;
  trigger('ask', { question });
}

element.addEventListener('click', (event) => {
  const card = event.target.closest('.card');
  if (card && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
    event.preventDefault();
    choose(card);
  }
  const example = event.target.closest('.example');
  if (example) ask(example.dataset.question);
  const act = event.target.closest('[data-act]')?.dataset.act;
  if (act === 'documents') trigger('documents');
  if (act === 'samples') trigger('samples');
});

folio.move = (step) => {
  const cards = [...root.querySelectorAll('.card')];
  const at = cards.findIndex((card) => card.getAttribute('aria-current'));
  const next = cards[Math.max(0, Math.min(cards.length - 1, at + step))];
  if (!next) return;
  next.focus({ preventScroll: true });
  next.scrollIntoView({ block: 'nearest' });
  choose(next);
};

const on = (target, name, handler) => {
  folio.off ??= {};
  folio.off[`results ${name}`]?.(); // this script runs anew when the page is rebuilt
  target.addEventListener(name, handler);
  folio.off[`results ${name}`] = () => target.removeEventListener(name, handler);
};
on(document, 'folio:shown', ({ detail }) => {
  for (const card of root.querySelectorAll('.card')) {
    const current = card.dataset.doc === detail.doc && Number(card.dataset.page) === detail.page;
    if (current) card.setAttribute('aria-current', 'true');
    else card.removeAttribute('aria-current');
  }
});
on(window, 'popstate', () => {
  const asked = new URL(location.href).searchParams;
  const [query, doc, page] = [asked.get('q') || '', asked.get('doc') || '', Number(asked.get('p')) || 1];
  if (query !== folio.query) trigger('restore', { query, doc, page });
  else if (doc) openPage({ query, doc, page }, {});
});
watch(['value'], draw);
watch(['home'], () => drawHome(Boolean(props.value?.query)));
draw();
