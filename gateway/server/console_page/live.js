/** What all pages look at: who is signed in, the status of the host as it changes, its last hour. */
import { ApiFailure, ask, events, pause } from "./api.js";
import { computed, signal } from "./html.js";

export const ADMIN = "/api/v1/admin";
/** `undefined` until it is known, null if no one is signed in. */
export const session = signal(undefined);
/** The status document (docs/status.md); null until it has come. */
export const status = signal(null);
/** Why the status does not come at the moment; empty if it does. */
export const trouble = signal("");
/** Columns as `GET /history` has them. */
export const history = signal({ at_unix_s: [], gpus: {}, models: {} });

export const models = computed(() => status.value?.models ?? []);
export const gpus = computed(() => status.value?.gpus ?? []);

const SAMPLE_EVERY_S = 10;
const KEPT_S = 3600;
let following = null;

/** Find out who is signed in. */
export async function begin() {
  try {
    enter(await ask("GET", "/console/session"));
  } catch (failure) {
    session.value = null;
    if (failure.status !== 401) trouble.value = failure.message;
  }
}

/** Sign in with an API key. Throws `ApiFailure`. */
export async function signIn(key) {
  enter(await ask("POST", "/console/session", { key }));
}

export async function signOut() {
  await ask("DELETE", "/console/session");
  leave();
}

/** Note that an answer says that the session is over. */
export function heard(failure) {
  if (failure instanceof ApiFailure && failure.status === 401) leave();
}

function enter(found) {
  session.value = found;
  trouble.value = "";
  following?.abort();
  following = new AbortController();
  if (found.admin) follow(following.signal);
}

function leave() {
  following?.abort();
  following = null;
  session.value = null;
  status.value = null;
}

/** Follow the status until the session ends, across all restarts of the gateway. */
async function follow(signal) {
  let wait = 500;
  while (!signal.aborted) {
    try {
      for await (const event of events(`${ADMIN}/status/stream`, { signal })) {
        if (event.name === "status") await loadHistory();
        status.value = event.name === "status" ? event.data : { ...status.value, ...event.data };
        trouble.value = "";
        wait = 500;
        sample(status.value);
      }
      if (!signal.aborted) trouble.value = "the gateway has ended the connection";
    } catch (failure) {
      if (signal.aborted) return;
      trouble.value = failure.message;
      heard(failure);
    }
    await pause(wait, signal);
    wait = Math.min(5000, wait * 2);
  }
}

async function loadHistory() {
  try {
    history.value = await ask("GET", `${ADMIN}/history`);
  } catch (failure) {
    heard(failure);
  }
}

/** Add what the status says to the last hour, as the supervisor does on its disk. */
function sample(document) {
  const { at_unix_s: times, gpus: ofGpus, models: ofModels } = history.value;
  const now = document.written_unix_s;
  if (times.length && now - times[times.length - 1] < SAMPLE_EVERY_S) return;
  const first = times.findIndex((time) => time >= now - KEPT_S);
  const cut = first < 0 ? times.length : first;
  const grown = { at_unix_s: [...times.slice(cut), now], gpus: {}, models: {} };
  grow(grown.gpus, ofGpus, document.gpus, (gpu) => gpu.uuid, times.length, cut);
  grow(grown.models, ofModels, document.models, (model) => model.id, times.length, cut);
  history.value = grown;
}

const FIELDS = {
  gpus: ["used_mib", "utilization_percent", "temperature_c"],
  models: ["running", "waiting", "tokens_per_s", "first_token_p50_s", "first_token_p99_s"],
};

function grow(target, before, present, nameOf, length, cut) {
  const fields = present.length && "uuid" in present[0] ? FIELDS.gpus : FIELDS.models;
  const now = new Map(present.map((each) => [nameOf(each), each]));
  for (const name of new Set([...Object.keys(before), ...now.keys()])) {
    target[name] = {};
    for (const field of fields) {
      const column = before[name]?.[field] ?? Array(length).fill(null);
      target[name][field] = [...column.slice(cut), now.get(name)?.[field] ?? null];
    }
  }
}
