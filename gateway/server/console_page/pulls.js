/** Downloads of models from a Hugging Face hub, as they go on. */
import { ask } from "./api.js";
import { date } from "./format.js";
import { html, useState } from "./html.js";
import { ADMIN, heard } from "./live.js";
import { Action, Notice, useAsked } from "./parts.js";

const EVERY_MS = 2000;
const SHOWN = 5;

export function Pulls() {
  const [found, problem, look] = useAsked(`${ADMIN}/tasks?kind=pull`, EVERY_MS);
  const [refusal, setRefusal] = useState("");
  const onFailure = (failure) => {
    heard(failure);
    setRefusal(failure.message);
  };
  const submit = async (event) => {
    event.preventDefault();
    const form = event.target;
    setRefusal("");
    try {
      await ask("POST", `${ADMIN}/tasks/pull`, { model: new FormData(form).get("model").trim() });
      form.reset();
      await look();
    } catch (failure) {
      onFailure(failure);
    }
  };
  const cancel = (task) => async () => {
    await ask("POST", `${ADMIN}/tasks/${task.id}/cancel`);
    await look();
  };
  const tasks = (found?.tasks ?? []).slice(0, SHOWN);
  return html`<section class="card" aria-labelledby="pull-title">
    <h2 id="pull-title">Download a model</h2>
    <form class="controls" onSubmit=${submit}>
      <label>Repository or model <input name="model" required maxlength="200" placeholder="Qwen/Qwen2.5-0.5B-Instruct" size="30" autocomplete="off" /></label>
      <button type="submit" class="main">Download</button>
    </form>
    ${(problem || refusal) && html`<${Notice}>${problem || refusal}<//>`}
    <ul class="plain" aria-live="polite">
      ${tasks.map(
        (task) => html`<li key=${task.id} class="controls">
          <strong>${task.model}</strong> <span class="state ${task.state}">${task.state}</span>
          <span class="faint">${task.state === "done" ? date(task.ended_unix_s) : task.last_line}</span>
          ${task.state === "running" && html`<${Action} label=${html`Cancel<span class="hidden"> the download of ${task.model}</span>`} run=${cancel(task)} onFailure=${onFailure} />`}
        </li>`,
      )}
    </ul>
    <p class="faint">It goes into the cache in which engines look for it; a download that was broken off goes on where it was.</p>
  </section>`;
}
