/** API keys: made, shown once, and revoked. */
import { ask } from "../api.js";
import { date } from "../format.js";
import { html, useEffect, useState } from "../html.js";
import { ADMIN, heard, models, session } from "../live.js";
import { Action, Copyable, Notice } from "../parts.js";

const DAY_S = 86_400;
const LIFETIMES = [["", "never"], [String(DAY_S), "in a day"], [String(30 * DAY_S), "in 30 days"], [String(365 * DAY_S), "in a year"]];

export default function Keys() {
  const [keys, setKeys] = useState(null);
  const [made, setMade] = useState(null);
  const [problem, setProblem] = useState("");
  const onFailure = (failure) => {
    heard(failure);
    setProblem(failure.message);
  };
  const look = async () => {
    try {
      setKeys((await ask("GET", `${ADMIN}/keys`)).keys);
    } catch (failure) {
      onFailure(failure);
    }
  };
  useEffect(() => void look(), []);
  const add = async (wanted) => {
    setProblem("");
    setMade({ name: wanted.name, ...(await ask("POST", `${ADMIN}/keys`, wanted)) });
    await look();
  };
  const revoke = (id) => async () => {
    setProblem("");
    await ask("DELETE", `${ADMIN}/keys/${id}`);
    if (made?.id === id) setMade(null);
    await look();
  };
  return html`
    <h1>Keys</h1>
    ${problem && html`<${Notice}>${problem}<//>`}
    <${Addition} add=${add} onFailure=${onFailure} />
    <div role="status">
      ${made &&
      html`<div class="notice good">
        <p>The key of ${made.name || made.id}, shown only now:</p>
        <${Copyable} text=${made.key} label="the new key" />
      </div>`}
    </div>
    <div class="scroll" tabindex="0" role="group" aria-label="Table of keys">
      <table>
        <thead>
          <tr>
            <th scope="col">Name</th>
            <th scope="col">Id</th>
            <th scope="col">State</th>
            <th scope="col">Opens</th>
            <th scope="col">Class</th>
            <th scope="col">Made</th>
            <th scope="col">Expires</th>
            <th scope="col"><span class="hidden">Revoke</span></th>
          </tr>
        </thead>
        <tbody>
          ${(keys ?? []).map((key) => html`<${Key} key=${key.id} of=${key} revoke=${revoke(key.id)} onFailure=${onFailure} />`)}
        </tbody>
      </table>
    </div>
  `;
}

function Key({ of: key, revoke, onFailure }) {
  const rights = [...key.models, key.admin && "administration", key.metrics && "metrics", key.anonymous && "requests without a key"];
  const isOwn = key.id === session.value.key_id;
  return html`<tr>
    <th scope="row">${key.name || html`<span class="faint">no name</span>`}${isOwn && html` <span class="faint">(yours)</span>`}</th>
    <td><code>${key.id}</code></td>
    <td><span class="state ${key.state}">${key.state}</span></td>
    <td>${rights.filter(Boolean).join(", ")}</td>
    <td>${key.priority}${key.weight !== 1 && `, weight ${key.weight}`}</td>
    <td>${date(key.created_unix_s)}</td>
    <td>${date(key.expires_unix_s)}</td>
    <td>
      ${key.state === "live" &&
      html`<${Action}
        label=${html`Revoke<span class="hidden"> ${key.name || key.id}</span>`}
        run=${revoke}
        onFailure=${onFailure}
        confirm=${isOwn ? "This is the key that you are signed in with. Revoke it?" : `Revoke the key of ${key.name || key.id}? Its open answers end.`}
      />`}
    </td>
  </tr>`;
}

function Addition({ add, onFailure }) {
  const submit = async (event) => {
    event.preventDefault();
    const form = event.target;
    const fields = new FormData(form);
    const globs = fields.get("models").split(/[\s,]+/).filter(Boolean);
    const lifetime = fields.get("expires");
    try {
      await add({
        name: fields.get("name").trim(),
        models: globs.length ? globs : ["*"],
        expires_in_s: lifetime ? Number(lifetime) : null,
        admin: fields.has("admin"),
      });
      form.reset();
    } catch (failure) {
      onFailure(failure);
    }
  };
  return html`<form class="card fields" onSubmit=${submit} aria-label="A new key">
    <label>Whose it is <input name="name" required maxlength="64" autocomplete="off" /></label>
    <label>Models, as globs <input name="models" placeholder="*" list="model-ids" autocomplete="off" /></label>
    <datalist id="model-ids">${models.value.map(({ id }) => html`<option key=${id} value=${id} />`)}</datalist>
    <label>Expires <select name="expires">${LIFETIMES.map(([value, words]) => html`<option key=${value} value=${value}>${words}</option>`)}</select></label>
    <label class="check"><input name="admin" type="checkbox" /> administers ew</label>
    <button type="submit" class="main">Make a key</button>
  </form>`;
}
