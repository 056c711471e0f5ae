/** The gateway's API, asked from its own page: the session's cookie goes along by itself, and counts
 * only with the header below (gateway/http/sessions.py). */

const PAGE = { "x-ew-console": "1" };
/** Streams send something at least every 10 s; one that is silent for longer is cut. */
const SILENCE_MS = 25_000;

/** An answer that is an error. `status` 0: there was no answer. `field`: what was wrong, if it was one. */
export class ApiFailure extends Error {
  constructor(status, code, message, field = "") {
    super(message);
    this.status = status;
    this.code = code;
    this.field = field;
  }
}

/** Ask, and return the answer's JSON; null if it has no body. Throws `ApiFailure`. */
export async function ask(method, path, body, { signal, headers } = {}) {
  const answer = await request(method, path, body, { signal, headers });
  return answer.status === 204 ? null : answer.json();
}

/** Yield the events of a stream as `{ name, data, id }`, `data` being parsed JSON. It ends when the
 * gateway ends it. Throws `ApiFailure`, also when the connection breaks. */
export async function* events(path, { method = "GET", body, signal, headers } = {}) {
  const cut = new AbortController();
  signal?.addEventListener("abort", () => cut.abort());
  let silence = setTimeout(() => cut.abort(), SILENCE_MS);
  try {
    const answer = await request(method, path, body, { signal: cut.signal, headers });
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await read(reader);
      if (done) return;
      clearTimeout(silence);
      silence = setTimeout(() => cut.abort(), SILENCE_MS);
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        const event = parse(block);
        if (event) yield event;
      }
    }
  } finally {
    clearTimeout(silence);
    cut.abort();
  }
}

async function request(method, path, body, { signal, headers = {} }) {
  const options = { method, signal, headers: { ...PAGE, ...headers } };
  if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers["content-type"] = "application/json";
  }
  let answer;
  try {
    answer = await fetch(path, options);
  } catch (error) {
    throw new ApiFailure(0, "unreachable", "the gateway cannot be reached");
  }
  if (!answer.ok) throw await failure(answer);
  return answer;
}

async function failure(answer) {
  try {
    const body = await answer.json();
    const said = body.error ?? body;
    return new ApiFailure(answer.status, said.code, said.message, said.field ?? "");
  } catch {
    return new ApiFailure(answer.status, "unknown", `the gateway answers ${answer.status}`);
  }
}

async function read(reader) {
  try {
    return await reader.read();
  } catch {
    throw new ApiFailure(0, "cut", "the connection was cut");
  }
}

function parse(block) {
  const event = { name: "", data: null, id: "" };
  for (const line of block.split("\n")) {
    const colon = line.indexOf(": ");
    const field = line.slice(0, colon);
    const value = line.slice(colon + 2);
    if (field === "event") event.name = value;
    else if (field === "id") event.id = value;
    else if (field === "data" && value !== "[DONE]") event.data = JSON.parse(value);
  }
  return event.data === null ? null : event;
}

/** Return after so many milliseconds, or when `signal` is aborted. */
export function pause(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    });
  });
}
