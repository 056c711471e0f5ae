/** A model's entry in the configuration file, as a form that its schema makes. */
import { ask } from "./api.js";
import { html, useEffect, useMemo, useState } from "./html.js";
import { ADMIN, heard } from "./live.js";
import { Action, Notice } from "./parts.js";

/** The keys that most entries have; the others are folded away until they are set. */
const FIRST = ["engine", "model_path", "load", "aliases", "replicas", "max_batch_size", "max_input_len", "max_output_len", "max_model_len", "gpus"];
const NEW = "";

/** `model` is the id of the entry, empty for a new one; `close` is called with the id that it has when
 * the form is done. */
export function Entry({ model, close }) {
  const [known, setKnown] = useState(null);
  const [problem, setProblem] = useState(null);
  const [texts, setTexts] = useState({});
  const [name, setName] = useState(model);
  const [said, setSaid] = useState(null);
  const look = async () => {
    setProblem(null);
    try {
      const [{ model_schema: schema, in_file_only: only }, file] = await Promise.all([ask("GET", `${ADMIN}/config/schema`), ask("GET", `${ADMIN}/config/models`)]);
      setKnown({ schema, only, file });
    } catch (failure) {
      heard(failure);
      setProblem(failure);
    }
  };
  useEffect(() => void look(), []);
  const fields = useMemo(() => known && fieldsOf(known), [known]);
  if (!known) return problem ? html`<${Notice}>${problem.message}<//>` : html`<p class="faint">The entry is read.</p>`;
  const entry = known.file.models[model] ?? { settings: {}, in_file_only: [] };
  const change = (key) => (event) => {
    setTexts({ ...texts, [key]: event.target.value });
    setSaid(null);
  };
  const send = async (isCheck) => {
    setProblem(null);
    setSaid(null);
    try {
      if (!name.trim()) throw { message: "a new model needs a name", field: "name" };
      if (model === NEW && known.file.models[name.trim()]) throw { message: `there is a model ${name.trim()} already`, field: "name" };
      const settings = changed(fields, texts, entry.settings);
      const path = `${ADMIN}/config/models/${encodeURIComponent(name.trim()).replaceAll("%2F", "/")}`;
      const found = await ask("PATCH", `${path}${isCheck ? "?check=true" : ""}`, { revision: known.file.revision, settings });
      setSaid({ ...found, isCheck });
      if (!isCheck) {
        await look();
        setTexts({});
        if (model === NEW) close(name.trim());
      }
    } catch (failure) {
      heard(failure);
      setProblem(failure);
    }
  };
  const wrong = problem?.field?.split(".").find((part) => part in known.schema.properties || part === "name");
  const draw = (field) => html`<${Field} key=${field.key} field=${field} isWrong=${field.key === wrong} text=${texts[field.key] ?? textOf(field, entry.settings[field.key])} onInput=${change(field.key)} />`;
  const isSet = ({ key }) => key in entry.settings || key in texts || key === wrong;
  const shown = fields.filter((field) => FIRST.includes(field.key) || isSet(field));
  const folded = fields.filter((field) => !shown.includes(field));
  return html`<section class="card entry" aria-labelledby="entry-title">
    <h2 id="entry-title">${model === NEW ? "Add a model" : `The entry of ${model}`}</h2>
    <p class="faint">In ${known.file.file}. What is not given is as the default says; the rest of the file stays as it is.</p>
    <form onSubmit=${(event) => event.preventDefault()}>
      <div class="fields">
        ${model === NEW &&
        html`<label>name <input name="name" value=${name} maxlength="96" autocomplete="off" aria-invalid=${wrong === "name"} onInput=${(event) => setName(event.target.value)} />
          <span class="faint help">By it clients ask for the model.</span></label>`}
        ${shown.map(draw)}
      </div>
      <details><summary>${folded.length} more keys</summary><div class="fields">${folded.map(draw)}</div></details>
    </form>
    <p class="faint">
      Changed in the file alone, since they can run other code on the host or tell its secrets: ${known.only.join(", ")}.
      ${entry.in_file_only.length > 0 && ` This entry has: ${entry.in_file_only.join(", ")}.`}
    </p>
    <p class="controls">
      <${Action} label="Check" run=${() => send(true)} />
      <${Action} label="Save" kind="main" run=${() => send(false)} />
      <button type="button" onClick=${() => close(model)}>Close</button>
      ${problem?.field === "revision" && html`<${Action} label="Read the file again" run=${look} />`}
    </p>
    <div role="status">
      ${problem && html`<p class="notice bad">${problem.message}</p>`}
      ${said && html`<${Said} said=${said} />`}
    </div>
  </section>`;
}

/** What came of it, and what applies it. */
function Said({ said }) {
  const done = said.isCheck ? "Nothing is wrong with it; nothing is written yet." : "It is written.";
  return html`<div class="notice good">
    ${done}
    ${said.waiting.length === 0 && !said.isCheck && " Nothing has to be restarted for it."}
    ${said.warnings.map((line) => html`<p key=${line} class="warn">${line}</p>`)}
    ${said.waiting.map(({ key, needs }) => html`<p key=${key}>${key} ${said.isCheck ? "would wait for" : "waits for"} <code>${needs}</code></p>`)}
  </div>`;
}

/** Return the keys that the form has, the first ones first: `{ key, kind, help, choices, otherwise }`. */
function fieldsOf({ schema, only }) {
  const keys = Object.keys(schema.properties).filter((key) => !only.includes(key));
  const place = (key) => (FIRST.indexOf(key) + 1 || FIRST.length + 1);
  return keys.sort((one, other) => place(one) - place(other)).map((key) => fieldOf(key, schema.properties[key], schema));
}

function fieldOf(key, given, schema) {
  const branches = (given.anyOf ?? [given]).filter(({ type }) => type !== "null").map((each) => resolved(each, schema));
  const node = branches[0];
  const kind = node.enum ? "choice" : node.type;
  return { key, kind, node, help: given.description ?? node.description ?? "", otherwise: given.default };
}

function resolved(node, schema) {
  return node.$ref ? schema.$defs[node.$ref.split("/").pop()] : node;
}

function Field({ field, text, onInput, isWrong }) {
  const { key, kind, node, help, otherwise } = field;
  const about = { name: key, value: text, "aria-describedby": `help-${key}`, "aria-invalid": isWrong, onInput };
  const unset = otherwise == null || kind === "object" ? "not set" : `default: ${Array.isArray(otherwise) ? otherwise.join(", ") || "none" : otherwise}`;
  const choices = kind === "boolean" ? ["true", "false"] : node.enum;
  return html`<div class=${kind === "object" ? "field whole" : "field"}>
    <label>${key}
      ${choices
        ? html`<select ...${about}><option value="">${unset}</option>${choices.map((each) => html`<option key=${each} value=${each}>${each}</option>`)}</select>`
        : kind === "object"
          ? html`<textarea rows="2" placeholder='as in {"key": "value"}' spellcheck="false" ...${about}></textarea>`
          : html`<input type=${kind === "integer" || kind === "number" ? "number" : "text"} step=${kind === "integer" ? 1 : "any"} min=${node.minimum} max=${node.maximum} placeholder=${unset} autocomplete="off" spellcheck="false" ...${about} />`}
    </label>
    <span class="faint help" id=${`help-${key}`}>${inWords(kind === "array" ? `${help} Several are parted by commas.` : help)}</span>
  </div>`;
}

/** Return a description with its names, which stand between backticks, as code. */
function inWords(help) {
  return help.split("`").map((part, index) => (index % 2 ? html`<code key=${index}>${part}</code>` : part));
}

/** Return the text that the form shows of a value; empty if it is not set. */
function textOf({ kind }, value) {
  if (value == null) return "";
  if (kind === "array") return value.join(", ");
  return kind === "object" ? JSON.stringify(value) : String(value);
}

/** Return the keys that were changed, with their new values; null for those that were emptied. Throws
 * with the `field` that is no JSON. */
function changed(fields, texts, before) {
  const found = {};
  for (const field of fields) {
    const text = texts[field.key]?.trim();
    if (text === undefined || text === textOf(field, before[field.key])) continue;
    found[field.key] = text === "" ? null : valueOf(field, text);
  }
  return found;
}

function valueOf({ key, kind, node }, text) {
  switch (kind) {
    case "integer":
    case "number":
      return Number(text);
    case "boolean":
      return text === "true";
    case "array":
      return text.split(",").map((part) => part.trim()).filter(Boolean).map((part) => itemOf(node, part));
    case "object":
      try {
        return JSON.parse(text);
      } catch {
        throw { message: `${key}: this is no JSON object, as in {"key": "value"}`, field: key };
      }
    default:
      return text;
  }
}

/** Of lists that take numbers, too, what looks like one is one. */
function itemOf({ items }, part) {
  const takesNumbers = (items.anyOf ?? [items]).some(({ type }) => type === "integer");
  return takesNumbers && /^\d+$/.test(part) ? Number(part) : part;
}
