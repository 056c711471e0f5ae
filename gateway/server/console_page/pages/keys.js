/** API keys: made, shown once, changed, rotated and revoked. */
import { ask } from "../api.js";
import { count, date } from "../format.js";
import { html, useState } from "../html.js";
import { ADMIN, heard, models, session } from "../live.js";
import { Action, Copyable, Notice, useAsked } from "../parts.js";
import { Table } from "../table.js";

const HOUR_S = 3_600;
const DAY_S = 24 * HOUR_S;
const LIFETIMES = [["", "never"], [String(DAY_S), "in a day"], [String(30 * DAY_S), "in 30 days"], [String(365 * DAY_S), "in a year"]];
const OVERLAPS = [["0", "at once"], [String(HOUR_S), "in an hour"], [String(DAY_S), "in a day"], [String(7 * DAY_S), "in a week"]];
const LIMITS = ["requests_per_minute", "tokens_per_minute", "open_requests", "waiting_requests", "waiting_bytes", "tokens_per_day", "tokens_per_month"];
const day = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });
const inWords = (name) => name.replaceAll("_", " ");

export default function Keys() {
  const [found, failed, look] = useAsked(`${ADMIN}/keys`);
  const [made, setMade] = useState(null);
  const [chosen, choose] = useState("");
  const [problem, setProblem] = useState("");
  const onFailure = (failure) => {
    heard(failure);
    setProblem(failure.message);
  };
  const keys = found?.keys ?? [];
  const changed = async (method, path, body) => {
    setProblem("");
    const answer = await ask(method, `${ADMIN}/keys${path}`, body);
    look();
    return answer;
  };
  const add = async (wanted) => setMade({ name: wanted.name, ...(await changed("POST", "", wanted)) });
  const rotate = async (key, overlap) => {
    setMade({ name: key.name, ...(await changed("POST", `/${key.id}/rotate`, { overlap_s: overlap })) });
    choose("");
  };
  const change = async (key, wanted) => {
    await changed("PATCH", `/${key.id}`, wanted);
    choose("");
  };
  const revoke = async (id) => {
    await changed("DELETE", `/${id}`);
    if (made?.id === id) setMade(null);
    if (chosen === id) choose("");
  };
  const key = keys.find(({ id, state }) => id === chosen && state === "live");
  return html`
    <h1>Keys</h1>
    ${(problem || failed) && html`<${Notice}>${problem || failed}<//>`}
    <div role="status">
      ${made &&
      html`<div class="notice good">
        <p>The key of ${made.name || made.id}, shown only now:</p>
        <${Copyable} text=${made.key} label="the new key" />
      </div>`}
    </div>
    <${Addition} add=${add} onFailure=${onFailure} />
    ${key && html`<${Change} key=${key.id} of=${key} change=${change} rotate=${rotate} close=${() => choose("")} onFailure=${onFailure} />`}
    <${Table} label="Table of keys" columns=${columnsOf({ choose, revoke, onFailure })} rows=${keys} keyOf=${({ id }) => id} />
  `;
}

function columnsOf({ choose, revoke, onFailure }) {
  return [
    { title: "Name", kind: "wide", of: name },
    { title: "Id", of: (key) => html`<code>${key.id}</code>` },
    { title: "State", of: (key) => html`<span class="state ${key.state}">${key.state}</span>` },
    { title: "Opens", of: rights },
    { title: "Limits", of: limits },
    { title: "Made", of: (key) => day.format(key.created_unix_s * 1000) },
    { title: "Last used", of: (key) => (key.last_used_unix_s == null ? "–" : date(key.last_used_unix_s)) },
    { title: "Expires", of: (key) => date(key.expires_unix_s) },
    { title: "Change or revoke", kind: "action", of: (key) => isChanged(key) && html`<${Actions} of=${key} choose=${choose} revoke=${revoke} onFailure=${onFailure} />` },
  ];
}

function name(key) {
  return html`${key.name || html`<span class="faint">no name</span>`}${isOwn(key) && html` <span class="faint">(yours)</span>`}
    ${key.host && html`<div class="faint">kept on ${key.host}</div>`} ${key.owner && html`<div class="faint">of ${key.owner}</div>`} ${key.note && html`<div class="faint">${key.note}</div>`}`;
}

function rights(key) {
  const share = [key.priority !== "normal" && `class ${key.priority}`, key.weight !== 1 && `weight ${key.weight}`].filter(Boolean).join(", ");
  const opened = [...key.models, key.admin && "administration", key.metrics && "metrics", key.anonymous && "requests without a key"].filter(Boolean);
  return html`${opened.join(", ")}${share && html`<div class="faint">${share}</div>`}`;
}

function limits(key) {
  const own = Object.entries(key.limits).map(([name, value]) => html`<div key=${name}>${inWords(name)}: ${value === "none" ? value : count(value)}</div>`);
  return html`${own}${key.group && html`<div>group ${key.group}</div>`}`;
}

/** Whether it can be changed: keys of another host are changed there. */
function isChanged(key) {
  return key.state === "live" && !key.host;
}

function isOwn(key) {
  return key.id === session.value.key_id;
}

function Actions({ of: key, choose, revoke, onFailure }) {
  const whose = html`<span class="hidden"> ${key.name || key.id}</span>`;
  return html`<button type="button" onClick=${() => choose(key.id)}>Change${whose}</button> <${Action}
      label=${html`Revoke${whose}`}
      run=${() => revoke(key.id)}
      onFailure=${onFailure}
      confirm=${isOwn(key) ? "This is the key that you are signed in with. Revoke it?" : `Revoke the key of ${key.name || key.id}? Its open answers end.`}
    />`;
}

/** Runs what a form is for; its fields are empty again when that is done. */
function submitted(run, onFailure) {
  return async (event) => {
    event.preventDefault();
    const form = event.target;
    try {
      await run(new FormData(form));
      form.reset();
    } catch (failure) {
      onFailure(failure);
    }
  };
}

function Addition({ add, onFailure }) {
  const submit = submitted((fields) => {
    const globs = fields.get("models").split(/[\s,]+/).filter(Boolean);
    const lifetime = fields.get("expires");
    return add({
      name: fields.get("name").trim(),
      owner: fields.get("owner").trim(),
      note: fields.get("note").trim(),
      models: globs.length ? globs : ["*"],
      expires_in_s: lifetime ? Number(lifetime) : null,
      admin: fields.has("admin"),
    });
  }, onFailure);
  return html`<form class="card fields" onSubmit=${submit} aria-label="A new key">
    <label>Whose it is <input name="name" required maxlength="64" autocomplete="off" /></label>
    <label>Models, as globs <input name="models" placeholder="*" list="model-ids" autocomplete="off" /></label>
    <datalist id="model-ids">${models.value.map(({ id }) => html`<option key=${id} value=${id} />`)}</datalist>
    <label>Owner <input name="owner" maxlength="64" autocomplete="off" /></label>
    <label>Note <input name="note" maxlength="200" autocomplete="off" /></label>
    <label>Expires <select name="expires">${choices(LIFETIMES)}</select></label>
    <label class="check"><input name="admin" type="checkbox" /> administers ew</label>
    <button type="submit" class="main">Make a key</button>
  </form>`;
}

function choices(pairs) {
  return pairs.map(([value, words]) => html`<option key=${value} value=${value}>${words}</option>`);
}

/** What is said of a key and its limits; and, apart, a new secret for it. */
function Change({ of: key, change, rotate, close, onFailure }) {
  const title = key.name || key.id;
  const submit = submitted((fields) => {
    const wanted = Object.fromEntries(LIMITS.map((name) => [name, limitOf(fields.get(name))]));
    const words = Object.fromEntries(["name", "owner", "note", "group"].map((name) => [name, fields.get(name).trim()]));
    return change(key, { ...words, limits: wanted });
  }, onFailure);
  const turn = submitted((fields) => rotate(key, Number(fields.get("overlap"))), onFailure);
  return html`
    <form class="card fields" onSubmit=${submit} aria-label=${`Change the key of ${title}`}>
      <label>Whose it is <input name="name" value=${key.name} maxlength="64" autocomplete="off" /></label>
      <label>Owner <input name="owner" value=${key.owner} maxlength="64" autocomplete="off" /></label>
      <label>Note <input name="note" value=${key.note} maxlength="200" autocomplete="off" /></label>
      <label>Group <input name="group" value=${key.group} maxlength="64" pattern="[A-Za-z0-9_.\\-]*" autocomplete="off" /></label>
      ${LIMITS.map(
        (name) => html`<label key=${name}>${inWords(name)} <input name=${name} value=${key.limits[name] ?? ""} placeholder="as configured" pattern="[1-9][0-9]*|none" title="A number, none, or nothing" autocomplete="off" /></label>`,
      )}
      <button type="submit" class="main">Save</button>
      <button type="button" onClick=${close}>Close</button>
    </form>
    <form class="card fields" onSubmit=${turn} aria-label=${`A new secret for ${title}`}>
      <label>The present key ends <select name="overlap">${choices(OVERLAPS)}</select></label>
      <button type="submit">Rotate: make a new key with the same rights</button>
    </form>
  `;
}

function limitOf(text) {
  const value = text.trim();
  return value === "" ? null : value === "none" ? value : Number(value);
}
