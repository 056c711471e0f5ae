/** The models of this host: what they take, and how they are changed. */
import { addressOf, parameter, setParameters } from "../address.js";
import { ask } from "../api.js";
import { Entry } from "../entry.js";
import { Estimate } from "../estimate.js";
import { gib, seconds } from "../format.js";
import { html, useState } from "../html.js";
import { ADMIN, gpus, heard, models, status } from "../live.js";
import { Action, Bar, State } from "../parts.js";
import { Pulls } from "../pulls.js";
import { runTask } from "../tasks.js";

/** In the address, the entry that is not there yet; no model can have this name. */
const NEW = "+";

export default function Models() {
  const entry = parameter("entry");
  const isOpen = entry !== "";
  return html`
    <h1>Models</h1>
    ${isOpen
      ? html`<${Entry} key=${entry} model=${entry === NEW ? "" : entry} close=${(model) => setParameters({ entry: entry === NEW ? model : "" })} />`
      : html`<p class="controls"><button type="button" onClick=${() => setParameters({ entry: NEW })}>Add a model</button></p>`}
    <${Unstarted} />
    ${models.value.length === 0 &&
    html`<p class="faint">None runs. <code>ew start</code> starts what is configured.</p>`}
    <div class="cards">${models.value.map((model) => html`<${Model} key=${model.id} model=${model} />`)}</div>
    <${Pulls} />
  `;
}

/** Models of the file that nothing runs of yet. */
function Unstarted() {
  const [problem, setProblem] = useState("");
  const names = waitingKeys().filter(isNew).map((key) => key.slice(ABOUT.length));
  const onFailure = (failure) => {
    heard(failure);
    setProblem(failure.message);
  };
  return html`<div role="status">
    ${names.map(
      (name) => html`<p key=${name} class="notice controls">${name} is in the configuration, and was not started.
        <${Action} label=${html`Start<span class="hidden"> ${name}</span>`} kind="main" run=${() => ask("POST", `${ADMIN}/models/${pathOf(name)}/start`)} onFailure=${onFailure} />
        <a href=${addressOf("models", { entry: name })}>Entry<span class="hidden"> of ${name}</span></a></p>`,
    )}
    ${problem && html`<p class="notice bad">${problem}</p>`}
  </div>`;
}

const ABOUT = "models.";
const waitingKeys = () => status.value.config?.waiting ?? [];

/** Whether a key that waits is the entry of a model that is not started: ids may have dots. */
function isNew(key) {
  return key.startsWith(ABOUT) && !models.value.some(({ id }) => key === ABOUT + id || keyOfEntry(id, key));
}

/** Return the key of a model's entry that the whole key names; empty if it is about something else. */
function keyOfEntry(id, key) {
  const rest = key.startsWith(`${ABOUT}${id}.`) ? key.slice(ABOUT.length + id.length + 1) : "";
  return /^[a-z_]+$/.test(rest) ? rest : "";
}

const pathOf = (model) => encodeURIComponent(model).replaceAll("%2F", "/");

function Model({ model }) {
  const [problem, setProblem] = useState("");
  const [said, setSaid] = useState("");
  const [estimated, setEstimated] = useState(null);
  const isOnDemand = model.load === "on-demand";
  const isLoaded = model.state === "ready";
  const change = (what, done) => async () => {
    setProblem("");
    setSaid("");
    const { outcomes } = await ask("POST", `${ADMIN}/models/${pathOf(model.id)}/${what}`);
    setSaid(outcomes.map(({ slot, note }) => note && `${slot} ${note}`).filter(Boolean).join("; ") || done);
  };
  const estimate = async () => {
    setProblem("");
    setEstimated((await runTask("estimate", { model: model.id })).result);
  };
  const onFailure = (failure) => {
    heard(failure);
    setProblem(failure.message);
  };
  return html`<article class="card" aria-label=${`Model ${model.id}`}>
    <h2>${model.id}</h2>
    <p>
      <${State} of=${model.state} stage=${model.stage} />${" "}
      <span class="faint">${isOnDemand ? model.stage !== "loads on demand" && "loaded on demand" : "always loaded"}${model.pinned && ", pinned"}</span>
    </p>
    <${Memory} model=${model} />
    <${Waits} model=${model} />
    <p class="controls">
      ${isOnDemand && !isLoaded && html`<${Action} label="Load" kind="main" run=${change("load", "It loads.")} onFailure=${onFailure} disabled=${model.state === "starting"} />`}
      ${isOnDemand && isLoaded && html`<${Action} label="Unload" run=${change("unload", "It is unloaded.")} onFailure=${onFailure} />`}
      ${isOnDemand && (model.pinned
        ? html`<${Action} label="Unpin" run=${change("unpin", "It may be unloaded for others.")} onFailure=${onFailure} />`
        : html`<${Action} label="Pin" run=${change("pin", "It stays.")} onFailure=${onFailure} />`)}
      <${Action} label="Restart" run=${change("restart", "It is replaced; open answers go on.")} onFailure=${onFailure} confirm=${`Restart ${model.id} with the settings of the configuration file?`} />
      <${Action} label=${html`Estimate<span class="hidden"> the memory of ${model.id}</span>`} run=${estimate} onFailure=${onFailure} />
      <a href=${addressOf("models", { entry: model.id })}>Entry<span class="hidden"> of ${model.id}</span></a>
      <a href=${`#/logs?unit=${encodeURIComponent(model.workers.map(({ slot }) => slot).join(","))}`}>Logs<span class="hidden"> of ${model.id}</span></a>
    </p>
    <div role="status">${said && html`<p class="notice good">${said}</p>`}${problem && html`<p class="notice bad">${problem}</p>`}</div>
    ${estimated && html`<${Estimate} found=${estimated} />`}
    <ul class="plain">${model.workers.map((worker) => html`<${Worker} key=${worker.slot} worker=${worker} />`)}</ul>
  </article>`;
}

/** Keys of its entry that were changed since it was loaded. */
function Waits({ model }) {
  const keys = waitingKeys().map((key) => keyOfEntry(model.id, key)).filter(Boolean);
  return keys.length > 0 && html`<p class="notice">Changed in its entry, until it is restarted: ${keys.join(", ")}</p>`;
}

function Memory({ model }) {
  const places = gpus.value.filter((gpu) => gpu.workers.some(({ slot }) => model.workers.some((worker) => worker.slot === slot)));
  return places.map((gpu) => {
    const slots = model.workers.map(({ slot }) => slot);
    const own = gpu.workers.filter(({ slot }) => slots.includes(slot));
    const used = own.reduce((sum, worker) => sum + worker.used_mib, 0);
    const reserved = own.reduce((sum, worker) => sum + worker.reserved_mib, 0);
    const text = `GPU ${gpu.index}: ${gib(used)} used, ${gib(reserved)} reserved, of ${gib(gpu.total_mib)}`;
    const parts = [
      { label: `used: ${gib(used)}`, value: used, kind: "ours" },
      { label: `reserved: ${gib(reserved)}`, value: Math.max(0, reserved - used), kind: "promised" },
      { label: "others", value: Math.max(0, gpu.used_mib - used), kind: "foreign" },
    ];
    return html`<div key=${gpu.uuid}><p class="faint">${text}</p><${Bar} total=${gpu.total_mib} parts=${parts} text=${text} /></div>`;
  });
}

function Worker({ worker }) {
  return html`<li>
    ${worker.slot} <${State} of=${worker.state} stage=${worker.stage} />
    <span class="faint">
      ${` ${worker.engine}`}${worker.version && ` ${worker.version}`}${worker.slots > 0 && `, ${worker.running} of ${worker.slots} jobs`}
      ${worker.ready_after_s != null && `, ready after ${seconds(worker.ready_after_s)}`}
      ${worker.remark && `, ${worker.remark}`}
    </span>
    ${worker.problem && html`<p class="notice bad">${worker.problem.message}${worker.problem.hint && html`<br /><span class="faint">${worker.problem.hint}</span>`}</p>`}
  </li>`;
}
