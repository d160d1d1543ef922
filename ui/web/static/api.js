// Talking to the server: JSON in and out, and one kind of error, whose message is written for the reader.

export class ApiError extends Error {
  constructor(status, kind, message) {
    super(message);
    this.status = status; // 0: the server did not answer
    this.kind = kind;
  }
}

const GONE = 'The server is not responding. It may be restarting: this page tries again automatically.';

export const url = (path) => new URL(path, document.baseURI);
const root = (path) => url(`api/v1/${path}`);

export function apiUrl(path, parameters = {}) {
  const place = root(path);
  for (const [name, value] of Object.entries(parameters)) {
    for (const item of Array.isArray(value) ? value : [value]) {
      if (item !== '' && item != null) place.searchParams.append(name, item);
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
  if (!answer.ok) throw await errorOf(answer);
  return answer;
}

async function errorOf(answer) {
  try {
    const { error } = await answer.json();
    return new ApiError(answer.status, error.kind, error.message);
  } catch {
    return new ApiError(answer.status, 'Refused', `The server rejected this request (HTTP ${answer.status}).`);
  }
}

export function toLogin() {
  location.href = `${url('login')}?next=${encodeURIComponent(location.pathname + location.search)}`;
}

export async function get(path, parameters, options) {
  return (await request(apiUrl(path, parameters), options)).json();
}

export async function send(method, path, body) {
  const headers = body === undefined ? {} : { 'Content-Type': 'application/json' };
  return (await request(root(path), { method, headers, body: body === undefined ? undefined : JSON.stringify(body) })).json();
}

// Saves a file from the server. Returns the server's notes about it, "" if there are none.
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

// Yields each complete piece of a response as it arrives; `end` is what ends a piece.
async function* pieces(answer, end) {
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
    const complete = rest.split(end);
    rest = complete.pop();
    yield* complete;
    if (chunk.done) return;
  }
}

// Yields each line of an NDJSON response as it arrives.
export async function* lines(path, parameters, options) {
  const answer = await request(apiUrl(path, parameters), { ...options, headers: { Accept: 'application/x-ndjson' } });
  for await (const line of pieces(answer, '\n')) {
    const value = JSON.parse(line);
    if (value.error) throw new ApiError(500, value.error.kind, value.error.message);
    yield value;
  }
}

// Yields each server-sent event of a response as [name, value]; throws an event named "error".
export async function* events(method, path, body, options) {
  const headers = { Accept: 'text/event-stream', ...(body ? { 'Content-Type': 'application/json' } : {}) };
  const answer = await request(root(path), { ...options, method, headers, body: body && JSON.stringify(body) });
  for await (const block of pieces(answer, '\n\n')) {
    const name = /^event: (.*)$/m.exec(block)?.[1];
    if (!name) continue; // a comment
    const value = JSON.parse(/^data: (.*)$/m.exec(block)[1]);
    if (name === 'error') throw new ApiError(500, value.error.kind, value.error.message);
    yield [name, value];
  }
}
