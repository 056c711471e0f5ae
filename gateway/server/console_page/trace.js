/** The life of one job, in order: attempts, workers, why each ended; and who changed something about it. */
import { setParameters } from "./address.js";
import { Changes } from "./changes.js";
import { clock, seconds } from "./format.js";
import { html } from "./html.js";
import { ADMIN } from "./live.js";
import { Notice, useAsked } from "./parts.js";
import { Table } from "./table.js";

const EVERY_MS = 3000;
const ENDS = ["done", "failed", "cancelled"];

export function Trace({ job }) {
  const path = `${ADMIN}/requests/${encodeURIComponent(job)}/trace`;
  const [found, problem] = useAsked(path, EVERY_MS);
  const [audit] = useAsked(`${ADMIN}/audit?${new URLSearchParams({ text: job })}`, EVERY_MS);
  return html`<section class="card" aria-labelledby="trace-title">
    <h2 id="trace-title">Trace of ${job}</h2>
    ${problem && html`<${Notice}>${problem}<//>`}
    ${found && html`<${Life} trace=${found} />`}
    ${audit?.entries.length > 0 && html`<h3>Changes by operators</h3><${Changes} entries=${audit.entries} />`}
    <p class="controls"><button type="button" onClick=${() => setParameters({ job: "" })}>Close</button></p>
  </section>`;
}

function Life({ trace }) {
  const began = trace.moments[0]?.at_ms ?? 0;
  const columns = [
    { title: "At", of: ({ at_ms: at }) => (at == null ? "" : clock(at / 1000)) },
    { title: "After", kind: "figure", of: ({ at_ms: at }) => (at == null ? "" : seconds((at - began) / 1000)) },
    { title: "What", of: ({ what }) => html`<span class=${ENDS.includes(what) ? `state ${what}` : ""}>${what.replaceAll("_", " ")}</span>` },
    { title: "Attempt", kind: "figure", of: ({ attempt }) => attempt || "" },
    { title: "Worker", of: ({ worker, engine, host }) => html`${worker} <span class="faint">${[engine, host].filter(Boolean).join(", ")}</span>` },
    { title: "Why", kind: "words", of: ({ text }) => text },
  ];
  return html`
    <p class="faint">${trace.model}, key ${trace.key_id || "none"}, request ${trace.request_id}: ${trace.state}</p>
    <${Table} label="Table of moments" columns=${columns} rows=${trace.moments} keyOf=${({ what, attempt, at_ms: at }) => `${what} ${attempt} ${at}`} isNamed=${false} />
    ${trace.log.length > 0 &&
    html`<details><summary>${trace.log.length} lines of logs</summary><pre class="lines" tabindex="0">${trace.log.join("\n")}</pre></details>`}
  `;
}
