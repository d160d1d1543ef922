const stock = element.querySelector('[data-part=stock]');

function draw() {
  const { documents = 0, pages = 0 } = props.value || {};
  stock.textContent = documents ? `${count(documents, 'document')} · ${count(pages, 'page')}` : '';
}

const remembered = localStorage.getItem('folioscope-theme');
if (remembered && !new URL(location.href).searchParams.has('__theme')) {
  document.body.classList.toggle('dark', remembered === 'dark');
}
element.addEventListener('click', (event) => {
  const act = event.target.closest('[data-act]')?.dataset.act;
  if (act === 'theme') {
    localStorage.setItem('folioscope-theme', document.body.classList.toggle('dark') ? 'dark' : 'light');
  } else if (act === 'keys') {
    document.dispatchEvent(new CustomEvent('folio:keys'));
  }
});
watch('value', draw);
draw();
