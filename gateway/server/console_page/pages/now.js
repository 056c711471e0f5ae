/** What runs at this moment. */
import { alertsOf } from "../alerts.js";
import { date, gib, number, seconds } from "../format.js";
import { html } from "../html.js";
import { gpus, history, models, status } from "../live.js";
import { Bar, State } from "../parts.js";
import { Plot } from "../plot.js";
import { Table } from "../table.js";

export default function Now() {
  return html`
    <h1>Now</h1>
    <${Alerts} />
    <section aria-labelledby="models-title">
      <h2 id="models-title">Models</h2>
      <${Models} />
    </section>
    ${gpus.value.length > 0 &&
    html`<section aria-labelledby="gpus-title">
      <h2 id="gpus-title">GPUs</h2>
      <div class="cards">${gpus.value.map((gpu) => html`<${Gpu} key=${gpu.uuid} gpu=${gpu} />`)}</div>
    </section>`}
    <section aria-labelledby="host-title">
      <h2 id="host-title">Host ${status.value.host}</h2>
      <${Host} />
    </section>
    ${status.value.others?.length > 0 &&
    html`<section aria-labelledby="others-title">
      <h2 id="others-title">Other hosts</h2>
      <${Table} label="Table of other hosts" columns=${OTHERS} rows=${status.value.others} keyOf=${({ name }) => name} />
    </section>`}
  `;
}

const OTHERS = [
  { title: "Host", of: ({ name }) => name },
  { title: "Gateways", kind: "figure", of: ({ gateways }) => number(gateways) },
  { title: "Models", kind: "words", of: (host) => Object.entries(host.models).map(([model, state]) => `${model} (${state})`).join(", ") },
  { title: "GPUs", kind: "figure", of: ({ gpus: count }) => number(count) },
  { title: "GPU memory", kind: "figure", of: (host) => `${gib(host.gpu_used_mib)} of ${gib(host.gpu_total_mib)}` },
];

function Alerts() {
  const alerts = alertsOf(status.value);
  return html`<ul class="alerts" aria-label="Alerts" aria-live="polite">
    ${alerts.length === 0 && html`<li class="good">Nothing needs your attention.</li>`}
    ${alerts.map(
      ({ level, text, next }) => html`<li key=${text} class=${level}>${text}.<br /><span class="faint">${next}</span></li>`,
    )}
  </ul>`;
}

function Models() {
  const times = history.value.at_unix_s;
  return html`<div class="scroll" tabindex="0" role="group" aria-label="Table of models">
    <table>
      <thead>
        <tr>
          <th scope="col">Model</th>
          <th scope="col">State</th>
          <th scope="col" class="figure">Waiting</th>
          <th scope="col" class="figure">Running</th>
          <th scope="col" class="figure">Tokens/s</th>
          <th scope="col" class="figure">First token p50</th>
          <th scope="col" class="figure">p99</th>
          <th scope="col" class="figure">Failed</th>
          <th scope="col" class="figure">Restarts</th>
          <th scope="col" class="wide">Tokens/s in the last hour</th>
        </tr>
      </thead>
      <tbody>
        ${models.value.map(
          (model) => html`<tr key=${model.id}>
            <th scope="row">${model.id}</th>
            <td><${State} of=${model.state} stage=${model.stage} /></td>
            <td class="figure">${number(model.waiting)}</td>
            <td class="figure">${number(model.running)}</td>
            <td class="figure">${number(model.tokens_per_s)}</td>
            <td class="figure">${seconds(model.first_token_p50_s)}</td>
            <td class="figure">${seconds(model.first_token_p99_s)}</td>
            <td class="figure">${number(model.failed)}</td>
            <td class="figure">${number(model.workers.reduce((sum, worker) => sum + worker.restarts, 0))}</td>
            <td class="wide"><${Spark} times=${times} values=${history.value.models[model.id]?.tokens_per_s ?? []} label=${model.id} /></td>
          </tr>`,
        )}
      </tbody>
    </table>
  </div>`;
}

/** A line without axes, small enough for a table. */
function Spark({ times, values, label }) {
  const most = Math.max(1, ...values.map((value) => value ?? 0));
  const end = times[times.length - 1] ?? 0;
  const points = values
    .map((value, index) => value != null && `${100 - (end - times[index]) / 36},${23 - (22 * value) / most}`)
    .filter(Boolean);
  return html`<svg class="spark" viewBox="0 0 100 24" preserveAspectRatio="none" role="img" aria-label=${`${label}: at most ${number(most)} tokens/s in the last hour`}>
    <polyline points=${points.join(" ")} />
  </svg>`;
}

function Gpu({ gpu }) {
  const ours = gpu.workers.reduce((sum, worker) => sum + worker.used_mib, 0);
  const foreign = gpu.foreign.reduce((sum, each) => sum + (each.used_mib ?? 0), 0);
  const other = Math.max(0, gpu.used_mib - ours - foreign);
  const parts = [
    ...gpu.workers.map(({ slot, stage, used_mib: used }) => ({ label: `${slot} (${stage}): ${gib(used)}`, value: used, kind: "ours" })),
    { label: `other processes: ${gib(foreign)}`, value: foreign, kind: "foreign" },
    { label: `the driver: ${gib(other)}`, value: other, kind: "driver" },
    { label: `promised: ${gib(gpu.promised_mib)}`, value: gpu.promised_mib, kind: "promised" },
  ];
  const columns = history.value.gpus[gpu.uuid] ?? {};
  const series = [
    { label: "memory", values: (columns.used_mib ?? []).map((mib) => mib && (100 * mib) / gpu.total_mib), show: percent },
    { label: "utilisation", values: columns.utilization_percent ?? [], show: percent },
  ];
  return html`<article class="card" aria-label=${`GPU ${gpu.index}`}>
    <h3>GPU ${gpu.index} <span class="faint">${gpu.name}</span></h3>
    <p>
      ${gib(gpu.used_mib)} of ${gib(gpu.total_mib)} used
      ${gpu.promised_mib > 0 && html`, ${gib(gpu.promised_mib)} promised`}
    </p>
    <${Bar} total=${gpu.total_mib} parts=${parts} text=${parts.filter((part) => part.value > 0).map((part) => part.label).join("; ") || "all free"} />
    <p class="faint">
      ${gpu.temperature_c == null ? "temperature not known" : `${gpu.temperature_c} °C`},
      ${gpu.utilization_percent == null ? " utilisation not known" : ` ${gpu.utilization_percent} % busy`}
    </p>
    <ul class="plain">
      ${gpu.workers.map(
        (worker) => html`<li key=${worker.slot}>${worker.slot} <span class="faint">${worker.stage}, ${gib(worker.used_mib)} of ${gib(worker.reserved_mib)} reserved</span></li>`,
      )}
      ${gpu.foreign.map(
        (each) => html`<li key=${each.pid}>${each.command || "a process"} <span class="faint">of ${each.user || "another user"}, pid ${each.pid}, ${gib(each.used_mib)}, not ew's</span></li>`,
      )}
    </ul>
    <${Plot} label="Memory and utilisation" times=${history.value.at_unix_s} series=${series} max=${100} />
  </article>`;
}

const percent = (value) => (value == null ? "–" : `${Math.round(value)} %`);

function Host() {
  const { supervisor, gateway, redis } = status.value;
  return html`<dl class="facts">
    <dt>Gateway</dt>
    <dd>
      ${gateway
        ? html`<${State} of=${gateway.state} stage=${gateway.stage} /> ${gateway.url},
            ${` ${gateway.processes.length} ${gateway.processes.length === 1 ? "process" : "processes"}, ${gateway.open_streams} open answers, ${number(gateway.rss_mib)} MiB`}`
        : "not supervised here"}
    </dd>
    <dt>Queue</dt>
    <dd>
      ${redis
        ? html`<${State} of=${redis.state} stage=${redis.stage} /> ${redis.server} ${redis.version},
            ${` ${number(redis.used_mib)} MiB, ${number(redis.operations_per_s)} operations/s`}`
        : "not known"}
    </dd>
    <dt>Supervisor</dt>
    <dd>${supervisor ? `${supervisor.alive ? "since" : "gone; it ran from"} ${date(supervisor.since_unix_s)}, pid ${supervisor.pid}` : "none"}</dd>
  </dl>`;
}
