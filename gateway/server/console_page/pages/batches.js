/** The batches of all keys, as they go on. */
import { parameter, setParameters } from "../address.js";
import { ask } from "../api.js";
import { count, date, seconds } from "../format.js";
import { html, useState } from "../html.js";
import { ADMIN } from "../live.js";
import { Action, Bar, Notice, useAsked } from "../parts.js";
import { Table } from "../table.js";

const EVERY_MS = 2000;
const ENDS = new Set(["completed", "failed", "expired", "cancelled"]);

export default function Batches() {
  const [found, problem, look] = useAsked(`${ADMIN}/batches`, EVERY_MS);
  const [refusal, setRefusal] = useState("");
  const wanted = parameter("text");
  const cancel = async (batch) => {
    setRefusal("");
    await ask("POST", `${ADMIN}/batches/${batch.id}/cancel`);
    await look();
  };
  const columns = [
    { title: "Batch", of: (batch) => html`<code title=${batch.id}>${batch.id.slice(0, 14)}…</code>` },
    { title: "Made", of: (batch) => date(batch.created_unix_s) },
    { title: "Key", of: (batch) => batch.key_name || batch.key_id },
    { title: "State", of: (batch) => html`<${Status} batch=${batch} />` },
    { title: "Done", kind: "wide", of: (batch) => html`<${Done} batch=${batch} />` },
    { title: "Requests", kind: "figure", of: (batch) => (batch.total ? count(batch.total) : "–") },
    { title: "Failed", kind: "figure", of: (batch) => count(batch.failed) },
    { title: "Asks", of: (batch) => html`<code>${batch.endpoint}</code>` },
    { title: "Ends", of: lifetime },
    {
      title: "Cancel",
      kind: "action",
      of: (batch) =>
        !ENDS.has(batch.status) &&
        html`<${Action}
          label=${html`Cancel<span class="hidden"> ${batch.id}</span>`}
          confirm=${`Cancel this batch of ${batch.key_name || batch.key_id}? What is answered is kept.`}
          run=${() => cancel(batch)}
          onFailure=${(failure) => setRefusal(failure.message)}
          disabled=${batch.status === "cancelling"}
        />`,
    },
  ];
  const batches = matching(found?.batches, wanted);
  return html`
    <h1>Batches</h1>
    ${(problem || refusal) && html`<${Notice}>${problem || refusal}<//>`}
    <p class="controls">
      <label>Show only those with <input type="search" value=${wanted} onInput=${(event) => setParameters({ text: event.target.value })} placeholder="key, id, state or path" /></label>
    </p>
    ${found && batches.length > 0 && html`<${Table} label="Table of batches" columns=${columns} rows=${batches} keyOf=${(batch) => batch.id} />`}
    ${found && !batches.length && html`<${Nothing} isFiltered=${wanted !== ""} />`}
  `;
}

function Nothing({ isFiltered }) {
  if (isFiltered) return html`<p class="faint">No batch has this text.</p>`;
  return html`<p class="empty">
    No batches yet. <code>ew batch run FILE</code> sends a file of requests, and so does every client of OpenAI's batch API. Each
    batch is shown here until its files are no longer kept.
  </p>`;
}

function matching(batches = [], wanted) {
  const word = wanted.trim().toLowerCase();
  return batches.filter(({ id, key_id, key_name, status, endpoint }) => [id, key_id, key_name, status, endpoint].some((text) => text.toLowerCase().includes(word)));
}

function Status({ batch }) {
  const fault = batch.faults[0];
  return html`<span class="state ${batch.status}">${batch.status.replace("_", " ")}</span>
    ${fault && html` <span class="faint" title=${fault.message}>${fault.line ? `line ${fault.line}: ` : ""}${fault.message}</span>`}`;
}

function Done({ batch }) {
  const { total, completed, failed } = batch;
  const parts = [
    { label: `${count(completed)} answered`, value: completed, kind: "ours" },
    { label: `${count(failed)} failed`, value: failed, kind: "failed" },
  ];
  return html`<${Bar} total=${Math.max(1, total)} parts=${parts} text=${total ? `${parts[0].label}, ${parts[1].label}, of ${count(total)}` : "not read yet"} />`;
}

function lifetime(batch) {
  if (batch.ended_unix_s != null) return `after ${seconds(batch.ended_unix_s - batch.created_unix_s)}`;
  return `by ${date(batch.expires_unix_s)}`;
}
