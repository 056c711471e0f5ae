/** Measurements of models: begun here, drawn as they go on, and compared with earlier ones. */
import { parameter, setParameters } from "../address.js";
import { ask } from "../api.js";
import { Legend } from "../columns.js";
import { Curve } from "../curve.js";
import { date, milliseconds, number, seconds } from "../format.js";
import { html, useEffect, useState } from "../html.js";
import { ADMIN, heard, models } from "../live.js";
import { Action, Notice, useAsked } from "../parts.js";
import { Table } from "../table.js";

const EVERY_MS = 2000;
const MOST_COMPARED = 4;
const CURVES = [
  ["Tokens per second", (run) => run.tokens_per_s, number],
  ["First token, half of the answers", (run) => run.ttft_ms.p50, milliseconds],
  ["First token, all but one in a hundred", (run) => run.ttft_ms.p99, milliseconds],
];

export default function Bench() {
  const [found, problem, look] = useAsked(`${ADMIN}/tasks?kind=bench`, EVERY_MS);
  const [refusal, setRefusal] = useState("");
  const tasks = found?.tasks ?? [];
  const asked = parameter("compare").split(",");
  const named = tasks.filter((task) => asked.includes(task.id));
  const chosen = named.length ? named : tasks.slice(0, 1);
  const results = useResults(chosen);
  const onFailure = (failure) => {
    heard(failure);
    setRefusal(failure.message);
  };
  const begin = async (wanted) => {
    setRefusal("");
    const { id } = await ask("POST", `${ADMIN}/tasks/bench`, wanted);
    setParameters({ compare: id });
    await look();
  };
  const running = tasks.find((task) => task.state === "running");
  const compare = (id, isWanted) => {
    const ids = chosen.map((task) => task.id).filter((each) => each !== id);
    setParameters({ compare: (isWanted ? [...ids, id].slice(-MOST_COMPARED) : ids).join(",") });
  };
  return html`
    <h1>Bench</h1>
    ${(problem || refusal) && html`<${Notice}>${problem || refusal}<//>`}
    <${Wanted} begin=${begin} onFailure=${onFailure} isBusy=${running != null} />
    ${running && html`<${Running} task=${running} look=${look} onFailure=${onFailure} />`}
    ${found && !tasks.length && html`<p class="empty">Nothing was measured yet. The last twenty measurements are kept, to be compared.</p>`}
    ${chosen.length > 0 && html`<${Found} tasks=${chosen} results=${results} />`}
    ${tasks.length > 0 && html`<${Kept} tasks=${tasks} chosen=${chosen} compare=${compare} />`}
  `;
}

/** Return the results of tasks by their ids: those that have ended are asked for once. */
function useResults(tasks) {
  const [results, setResults] = useState({});
  // A task that runs is another one at each look.
  const wanted = tasks.map(({ id, state, last_line: line }) => `${id} ${state} ${state === "running" ? line : ""}`).join("|");
  useEffect(() => {
    let isOver = false;
    for (const { id, state } of tasks) {
      if (results[id]?.state === state && state !== "running") continue;
      ask("GET", `${ADMIN}/tasks/${id}`).then(
        (task) => !isOver && setResults((known) => ({ ...known, [id]: task })),
        heard,
      );
    }
    return () => {
      isOver = true;
    };
  }, [wanted]);
  return results;
}

function Wanted({ begin, onFailure, isBusy }) {
  const [levels, setLevels] = useState("1, 4, 16, 64");
  const [time, setTime] = useState("10");
  const streams = levels.split(/[\s,]+/).filter(Boolean).map(Number);
  const isGood = streams.length > 0 && streams.every((each) => Number.isInteger(each) && each > 0);
  const submit = async (event) => {
    event.preventDefault();
    const fields = new FormData(event.target);
    try {
      await begin({ model: fields.get("model"), streams, seconds: Number(time), tokens: Number(fields.get("tokens")), prompt_words: Number(fields.get("words")) });
    } catch (failure) {
      onFailure(failure);
    }
  };
  return html`<form class="card" onSubmit=${submit} aria-label="A new measurement">
    <div class="fields">
      <label>Model <select name="model">${models.value.map(({ id, state }) => html`<option key=${id} value=${id}>${id} (${state})</option>`)}</select></label>
      <label>Answers at once <input value=${levels} onInput=${(event) => setLevels(event.target.value)} required inputmode="numeric" aria-invalid=${!isGood} /></label>
      <label>Seconds for each <input type="number" min="1" max="120" value=${time} onInput=${(event) => setTime(event.target.value)} required /></label>
      <label>Tokens of an answer <input name="tokens" type="number" min="1" max="8192" value="128" required /></label>
      <label>Words of a prompt <input name="words" type="number" min="1" max="20000" value="100" required /></label>
      <button type="submit" class="main" disabled=${isBusy || !isGood}>Measure</button>
    </div>
    <p class="faint">
      ${isGood ? `About ${seconds(Math.ceil(streams.length * Number(time) + 5)).replace(".0", "")}. ` : "Numbers with commas between them. "}
      The load is made on the gateway's host, and the model's other clients wait beside it.
    </p>
  </form>`;
}

function Running({ task, look, onFailure }) {
  const cancel = async () => {
    await ask("POST", `${ADMIN}/tasks/${task.id}/cancel`);
    await look();
  };
  return html`<div class="card running" role="status">
    <strong>${task.model} is measured</strong>
    <span class="faint">${task.last_line || "it begins"}</span>
    <${Action} label="Cancel" run=${cancel} onFailure=${onFailure} />
  </div>`;
}

/** The curves and figures of the measurements that are compared. */
function Found({ tasks, results }) {
  const shown = tasks.map((task, index) => ({ name: nameOf(task, tasks), kind: `series-${index + 1}`, runs: results[task.id]?.result?.runs ?? [], task }));
  const steps = [...new Set(shown.flatMap(({ runs }) => runs.map((run) => run.streams)))].sort((one, other) => one - other);
  const failed = tasks.filter((task) => !["running", "done", "cancelled"].includes(task.state));
  return html`<section aria-label="What was measured">
    ${failed.map((task) => html`<${Notice} key=${task.id}>${nameOf(task, tasks)}: ${task.last_line || task.state}<//>`)}
    ${steps.length > 0 &&
    html`<div class="card">
      <${Legend} series=${shown.map(({ name, kind }) => ({ label: name, kind }))} />
      <div class="answers">
        ${CURVES.map(([label, value, show]) => {
          const series = shown.map(({ name, kind, runs }) => ({ name, kind, values: steps.map((step) => valueAt(runs, step, value)) }));
          return html`<${Curve} key=${label} label=${label} steps=${steps} series=${series} show=${show} />`;
        })}
      </div>
      <p class="faint">Each over the number of answers at once.</p>
    </div>`}
    ${steps.length > 0 && html`<${Figures} shown=${shown} />`}
  </section>`;
}

function valueAt(runs, streams, value) {
  const run = runs.find((each) => each.streams === streams);
  return run ? value(run) : null;
}

/** Those of one model are told apart by their time. */
function nameOf(task, tasks) {
  return tasks.filter(({ model }) => model === task.model).length > 1 ? `${task.model}, ${date(task.began_unix_s)}` : task.model;
}

function Figures({ shown }) {
  const rows = shown.flatMap(({ name, runs, task }) => runs.map((run) => ({ ...run, name, id: `${task.id} ${run.streams}` })));
  const figure = (title, value, show) => ({ title, kind: "figure", of: (row) => show(value(row)) });
  const columns = [
    { title: "Model", of: ({ name }) => name },
    figure("At once", (row) => row.streams, number),
    figure("Tokens/s", (row) => row.tokens_per_s, number),
    figure("Answers/s", (row) => row.requests_per_s, (rate) => rate.toFixed(1)),
    figure("First token p50", (row) => row.ttft_ms.p50, milliseconds),
    figure("p99", (row) => row.ttft_ms.p99, milliseconds),
    figure("Between tokens p50", (row) => row.gap_ms.p50, milliseconds),
    figure("Gap p99", (row) => row.gap_ms.p99, milliseconds),
    figure("Failed", (row) => row.requests.failed, number),
    { title: "Remark", of: (row) => html`<span class="faint">${remark(row)}</span>` },
  ];
  return html`<${Table} label="Table of figures" columns=${columns} rows=${rows} keyOf=${({ id }) => id} />`;
}

function remark(run) {
  if (run.is_interrupted) return "broken off";
  const [error] = Object.keys(run.errors);
  if (error) return error;
  return run.generator.busiest_percent > 90 ? "the load generator was the limit" : "";
}

function Kept({ tasks, chosen, compare }) {
  const columns = [
    {
      title: "Compare",
      of: (task) => html`<input
        type="checkbox"
        aria-label=${`Compare ${task.model} of ${date(task.began_unix_s)}`}
        checked=${chosen.includes(task)}
        disabled=${chosen.includes(task) && chosen.length === 1}
        onChange=${(event) => compare(task.id, event.target.checked)}
      />`,
    },
    { title: "Model", of: ({ model }) => model },
    { title: "Began", of: (task) => date(task.began_unix_s) },
    { title: "State", of: ({ state }) => html`<span class="state ${state}">${state}</span>` },
    { title: "Answers at once", of: ({ settings }) => settings.streams.join(", ") },
    { title: "Seconds for each", kind: "figure", of: ({ settings }) => number(settings.seconds) },
    { title: "Tokens", kind: "figure", of: ({ settings }) => number(settings.tokens) },
    { title: "Words", kind: "figure", of: ({ settings }) => number(settings.prompt_words) },
  ];
  return html`<section aria-labelledby="kept-title">
    <h2 id="kept-title">Kept <span class="faint">tick up to ${MOST_COMPARED} to compare them</span></h2>
    <${Table} label="Table of measurements" columns=${columns} rows=${tasks} keyOf=${({ id }) => id} isNamed=${false} />
  </section>`;
}
