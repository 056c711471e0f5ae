/** What a model would take of the GPUs, before it is loaded: the figures of `ew estimate`. */
import { Legend } from "./columns.js";
import { gib } from "./format.js";
import { html } from "./html.js";
import { Bar } from "./parts.js";

const MIB = 2 ** 20;
const LEGEND = [
  { label: "taken", kind: "driver" },
  { label: "weights", kind: "series-1" },
  { label: "KV cache", kind: "series-4" },
  { label: "what else it needs", kind: "series-2" },
];
const size = (bytes) => gib(bytes / MIB);

/** `found`: the result of a task `estimate` of one model. */
export function Estimate({ found }) {
  const [model] = found.models;
  if (model.error) return html`<p class="notice bad">${model.error}</p>`;
  if (!model.parts) return html`<p class="notice good">It needs no memory of a GPU.</p>`;
  const places = [...model.placed, ...model.running.map(({ assignment }) => assignment)];
  return html`<section class="estimate" aria-label="Estimate">
    <p>${need(model)}</p>
    ${places.map((place) => html`<${Place} key=${place.slot} place=${place} model=${model} gpus=${found.gpus} isThere=${!model.placed.includes(place)} />`)}
    ${model.refused.map((refusal) => html`<${Refusal} key=${refusal.slot} refusal=${refusal} />`)}
    ${!places.length && !model.refused.length && html`<p class="faint">There is no GPU here to place it on.</p>`}
    ${places.length > 0 && html`<${Legend} series=${LEGEND} />`}
    <details>
      <summary>Where the figures come from</summary>
      <ul class="plain">
        ${model.parts.map(({ name, size_bytes: bytes, how }) => html`<li key=${name}>${name}: ${size(bytes)} <span class="faint">${how}</span></li>`)}
        ${model.measured && html`<li>measured at its last start: ${size(model.measured.ready_bytes)}</li>`}
        ${reading(model) && html`<li class="faint">${reading(model)}</li>`}
        ${model.notes.map((note) => html`<li key=${note} class="faint">${note}</li>`)}
      </ul>
    </details>
  </section>`;
}

function need({ least_bytes: least, wanted_bytes: wanted, gpus_per_worker: gpus, workers }) {
  const where = gpus === 1 ? "on one GPU" : `on each of ${gpus} GPUs`;
  const each = workers === 1 ? "" : `, ${workers} times`;
  return least === wanted ? `Needs ${size(wanted)} ${where}${each}.` : `Needs ${size(least)} ${where}${each}, and would use ${size(wanted)}.`;
}

/** Whose reading of the model's files it is, and of ew's own why. */
function reading({ source, own_reading: why }) {
  const said = source === "ew" ? "" : `as ${source} has`;
  if (!why) return said && `context and layers ${said} them`;
  return `${said ? `context ${said} it, layers` : "context and layers"} as ew reads the files: ${why}`;
}

function Place({ place, model, gpus, isThere }) {
  return Object.entries(place.bytes_by_gpu).map(([uuid, bytes]) => {
    const gpu = gpus.find((each) => each.uuid === uuid);
    if (!gpu) return null;
    const taken = gpu.total_bytes - gpu.free_bytes - (isThere ? bytes : 0);
    const weights = Math.min(bytes, model.parts.find(({ name }) => name === "weights")?.size_bytes ?? 0);
    const cache = Math.min(bytes - weights, place.kv_cache_bytes ?? 0);
    const parts = [
      { label: `taken: ${size(taken)}`, value: taken, kind: "driver" },
      { label: `weights: ${size(weights)}`, value: weights, kind: "series-1" },
      { label: `KV cache: ${size(cache)}`, value: cache, kind: "series-4" },
      { label: `what else it needs: ${size(bytes - weights - cache)}`, value: bytes - weights - cache, kind: "series-2" },
    ];
    const text = `${place.slot} ${isThere ? "has" : "would take"} ${size(bytes)} of GPU ${gpu.index}, where ${size(gpu.free_bytes)} of ${size(gpu.total_bytes)} are free`;
    return html`<div key=${uuid}><p class="faint">${text}</p><${Bar} total=${gpu.total_bytes} parts=${parts} text=${`${text}; ${parts.map(({ label }) => label).join("; ")}`} /></div>`;
  });
}

function Refusal({ refusal }) {
  const where = refusal.gpus === 1 ? "one GPU" : `each of ${refusal.gpus} GPUs`;
  return html`<div class="notice bad">
    <p>${refusal.slot} has no place: it needs ${size(refusal.needed_bytes)} on ${where}.</p>
    <ul class="plain faint">${refusal.verdicts.map(({ gpu, reason }) => html`<li key=${gpu}>${gpu}: ${reason}</li>`)}</ul>
  </div>`;
}
