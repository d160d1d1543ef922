// Talking to the server: JSON in and out, and one kind of error, whose message is made to be read.

export class ApiError extends Error {
  constructor(status, kind, message) {
    super(message);
    this.status = status; // 0: the server did not answer
    this.kind = kind;
  }
}

const GONE = 'The server does not answer. It may be starting again: this page tries again by itself.';

export const url = (path) => new URL(path, document.baseURI);
const root = (path) => url(`api/v1/${path}`);

export function asked(path, parameters = {}) {
  const place = root(path);
  for (const [name, value] of Object.entries(parameters)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== '' && one != null) place.searchParams.append(name, one);
    }
  }
  return place;
}

async function request(place, options) {
  let answer;
  try {
    answer = await fetch(place, { credentials: 'same-origin', ...options });
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new ApiError(0, 'Unreachable', GONE);
  }
  if (answer.status === 401) toLogin();
  if (!answer.ok) throw await refusal(answer);
  return answer;
}

async function refusal(answer) {
  try {
    const { error } = await answer.json();
    return new ApiError(answer.status, error.kind, error.message);
  } catch {
    return new ApiError(answer.status, 'Refused', `The server refused this (${answer.status}).`);
  }
}

export function toLogin() {
  location.href = `${url('login')}?next=${encodeURIComponent(location.pathname + location.search)}`;
}

export async function get(path, parameters, options) {
  return (await request(asked(path, parameters), options)).json();
}

export async function send(method, path, body) {
  const headers = body === undefined ? {} : { 'Content-Type': 'application/json' };
  return (await request(root(path), { method, headers, body: body === undefined ? undefined : JSON.stringify(body) })).json();
}

// A file of the server's, saved by the browser. What the server has to say of it, in words.
export async function download(place) {
  const answer = await request(place, {});
  const name = decodeURIComponent(answer.headers.get('content-disposition')?.split("''")[1] ?? 'folioscope');
  const link = document.createElement('a');
  link.href = URL.createObjectURL(await answer.blob());
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  return decodeURIComponent(answer.headers.get('x-folioscope-notes') ?? '');
}

// Each line of an NDJSON answer, as it comes.
export async function* lines(path, parameters, options) {
  const answer = await request(asked(path, parameters), { ...options, headers: { Accept: 'application/x-ndjson' } });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    let chunk;
    try {
      chunk = await reader.read();
    } catch (error) {
      if (error.name === 'AbortError') throw error;
      throw new ApiError(0, 'Unreachable', GONE);
    }
    rest += chunk.value ?? '';
    const found = rest.split('\n');
    rest = found.pop();
    for (const line of found) {
      const value = JSON.parse(line);
      if (value.error) throw new ApiError(500, value.error.kind, value.error.message);
      yield value;
    }
    if (chunk.done) return;
  }
}
