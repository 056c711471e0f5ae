/** Requests that are open, and those that ended last. */
import { addressOf, parameter, setParameters } from "../address.js";
import { ask } from "../api.js";
import { clock, milliseconds, number } from "../format.js";
import { html, useMemo, useState } from "../html.js";
import { ADMIN, heard } from "../live.js";
import { Action, Notice, useInterval } from "../parts.js";
import { Trace } from "../trace.js";

const EVERY_MS = 2000;
const IN_WORDS = { waiting: "waits", starting: "with its worker", streaming: "streams" };

export default function Requests() {
  const [found, setFound] = useState(null);
  const [problem, setProblem] = useState("");
  const wanted = parameter("text");
  const job = parameter("job");
  const look = async () => {
    try {
      setFound(await ask("GET", `${ADMIN}/requests`));
      setProblem("");
    } catch (failure) {
      heard(failure);
      setProblem(failure.message);
    }
  };
  useInterval(look, EVERY_MS);
  const cancel = async (job) => {
    await ask("POST", `${ADMIN}/requests/${job}/cancel`);
    await look();
  };
  const open = useMemo(() => matching(found?.open, wanted), [found, wanted]);
  const ended = useMemo(() => matching(found?.ended, wanted), [found, wanted]);
  return html`
    <h1>Requests</h1>
    ${problem && html`<${Notice}>${problem}<//>`}
    <p class="controls">
      <label>Show only those with <input type="search" value=${wanted} onInput=${(event) => setParameters({ text: event.target.value })} placeholder="model, key, id or state" /></label>
    </p>
    ${job && html`<${Trace} key=${job} job=${job} />`}
    <section aria-labelledby="open-title">
      <h2 id="open-title">Open <span class="faint">${found ? open.length : ""}</span></h2>
      <${Open} requests=${open} cancel=${cancel} onFailure=${(failure) => setProblem(failure.message)} />
    </section>
    <section aria-labelledby="ended-title">
      <h2 id="ended-title">Ended <span class="faint">${found ? ended.length : ""}</span></h2>
      <${Ended} requests=${ended} />
    </section>
  `;
}

function matching(requests = [], wanted) {
  const word = wanted.trim().toLowerCase();
  if (!word) return requests;
  return requests.filter(({ model, key_name, key_id, job_id, request_id, state, error, worker }) =>
    [model, key_name, key_id, job_id, request_id, state, error, worker].some((text) => text.toLowerCase().includes(word)),
  );
}

function Open({ requests, cancel, onFailure }) {
  if (!requests.length) return html`<p class="faint">None at the moment.</p>`;
  return html`<div class="scroll" tabindex="0" role="group" aria-label="Table of open requests">
    <table>
      <thead>
        <tr>
          <th scope="col">Since</th>
          <th scope="col">Model</th>
          <th scope="col">Key</th>
          <th scope="col">Stage</th>
          <th scope="col">Worker</th>
          <th scope="col" class="figure">Tokens</th>
          <th scope="col" class="figure">Age</th>
          <th scope="col">Request</th>
          <th scope="col"><span class="hidden">Cancel</span></th>
        </tr>
      </thead>
      <tbody>
        ${requests.map(
          (each) => html`<tr key=${each.job_id}>
            <td>${clock(each.began_unix_s)}</td>
            <td>${each.model}</td>
            <td>${each.key_name || each.key_id}</td>
            <td>${IN_WORDS[each.state]}${each.state === "waiting" && each.position > 0 && `, came after ${each.position}`}${each.attempts > 1 && `, attempt ${each.attempts}`}</td>
            <td>${each.worker}</td>
            <td class="figure">${number(each.tokens)}</td>
            <td class="figure">${milliseconds(each.total_ms)}</td>
            <td><${Traced} request=${each} /></td>
            <td>
              <${Action} label=${html`Cancel<span class="hidden"> ${each.request_id}</span>`} run=${() => cancel(each.job_id)} onFailure=${onFailure} />
            </td>
          </tr>`,
        )}
      </tbody>
    </table>
  </div>`;
}

function Ended({ requests }) {
  const longest = useMemo(() => Math.max(1, ...requests.map((each) => each.total_ms)), [requests]);
  if (!requests.length) return html`<p class="faint">None yet.</p>`;
  return html`<div class="scroll" tabindex="0" role="group" aria-label="Table of ended requests">
    <table>
      <thead>
        <tr>
          <th scope="col">Began</th>
          <th scope="col">Model</th>
          <th scope="col">Key</th>
          <th scope="col">End</th>
          <th scope="col" class="figure">Queue</th>
          <th scope="col" class="figure">First token</th>
          <th scope="col" class="figure">Total</th>
          <th scope="col" class="figure">Tokens</th>
          <th scope="col" class="wide">Queue, first token, stream</th>
          <th scope="col">Request</th>
        </tr>
      </thead>
      <tbody>
        ${requests.map(
          (each) => html`<tr key=${each.job_id}>
            <td>${clock(each.began_unix_s)}</td>
            <td>${each.model}</td>
            <td>${each.key_name || each.key_id}</td>
            <td><span class="state ${each.state}">${each.error || each.state}</span>${each.attempts > 1 && ` ${each.attempts} attempts`}</td>
            <td class="figure">${milliseconds(each.queue_ms)}</td>
            <td class="figure">${milliseconds(each.first_token_ms)}</td>
            <td class="figure">${milliseconds(each.total_ms)}</td>
            <td class="figure">${number(each.tokens)}</td>
            <td class="wide"><${Waterfall} request=${each} longest=${longest} /></td>
            <td><${Traced} request=${each} /></td>
          </tr>`,
        )}
      </tbody>
    </table>
  </div>`;
}

/** Leads to what became of it; the rest of the address stays. */
function Traced({ request: { job_id: job, request_id: id } }) {
  return html`<a href=${addressOf("requests", { text: parameter("text"), job })}><span class="hidden">Trace of </span><code>${id.slice(0, 12)}</code></a>`;
}

function Waterfall({ request, longest }) {
  const queue = request.queue_ms || (request.first_token_ms ? 0 : request.total_ms);
  const first = Math.max(0, request.first_token_ms - queue);
  const stream = Math.max(0, request.total_ms - queue - first);
  const width = (ms) => ({ width: `${(100 * ms) / longest}%` });
  return html`<span class="waterfall" aria-hidden="true">
    <span class="queue" style=${width(queue)}></span><span class="first" style=${width(first)}></span><span class="stream" style=${width(stream)}></span>
  </span>`;
}
