/** What keys have used, by day, key and model. */
import { parameter, setParameters } from "../address.js";
import { Columns } from "../columns.js";
import { count, seconds } from "../format.js";
import { html, useMemo } from "../html.js";
import { ADMIN, session } from "../live.js";
import { Notice, useAsked } from "../parts.js";
import { Table } from "../table.js";

const DAY_MS = 86_400_000;
const PERIODS = [["7", "7 days"], ["30", "30 days"], ["90", "90 days"], ["365", "a year"]];
const FIELDS = ["requests", "errors", "cancelled", "promptTokens", "cachedTokens", "completionTokens", "reasoningTokens", "engineSeconds"];
const SERIES = [
  { label: "tokens of answers", kind: "ours" },
  { label: "tokens of prompts", kind: "promised" },
];
const shortDay = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", timeZone: "UTC" });

export default function Usage() {
  const isOperator = session.value.admin;
  const days = Number(parameter("days", "30"));
  const by = parameter("by", isOperator ? "key" : "model");
  const only = { key: parameter("key"), model: parameter("model") };
  const since = isoDay(Date.now() - (days - 1) * DAY_MS);
  const [found, problem] = useAsked(`/api/v1/usage?since=${since}${isOperator ? "&all=true" : ""}`);
  const [keys] = useAsked(isOperator ? `${ADMIN}/keys` : null);
  const names = useMemo(() => new Map((keys?.keys ?? []).map((key) => [key.id, key.name])), [keys]);
  const rows = (found?.usage ?? []).filter((row) => (!only.key || row.key === only.key) && (!only.model || row.model === only.model));
  const nameOf = (key) => (key === "-" || key == null ? "without a key" : names.get(key) || key);
  return html`
    <h1>Usage</h1>
    ${problem && html`<${Notice}>${problem}<//>`}
    <${Choices} days=${days} by=${by} only=${only} nameOf=${nameOf} isOperator=${isOperator} rows=${rows} />
    ${found && !rows.length && html`<p class="empty">Nothing was asked in these days. Each request counts on the day on which it ends (UTC).</p>`}
    ${rows.length > 0 &&
    html`
      <${Sums} rows=${rows} />
      <${Days} rows=${rows} since=${found.since} until=${found.until} />
      <${Shares} rows=${rows} by=${by} nameOf=${nameOf} />
    `}
  `;
}

function Choices({ days, by, only, nameOf, isOperator, rows }) {
  const chosen = Object.entries(only).filter(([, value]) => value);
  return html`<div class="controls">
    <label>The last
      <select value=${String(days)} onChange=${(event) => setParameters({ days: event.target.value })}>
        ${PERIODS.map(([value, words]) => html`<option key=${value} value=${value}>${words}</option>`)}
      </select>
    </label>
    <label>A line for each
      <select value=${by} onChange=${(event) => setParameters({ by: event.target.value })}>
        ${isOperator && html`<option value="key">key</option>`}
        <option value="model">model</option>
        <option value="day">day</option>
      </select>
    </label>
    ${chosen.map(
      ([name, value]) =>
        html`<button key=${name} type="button" aria-pressed="true" onClick=${() => setParameters({ [name]: "" })}>
          ${name} ${name === "key" ? nameOf(value) : value}<span aria-hidden="true"> ✕</span><span class="hidden">: show all again</span>
        </button>`,
    )}
    <button type="button" disabled=${!rows.length} onClick=${() => save(rows, nameOf, isOperator)}>Save as CSV</button>
  </div>`;
}

/** The figures of all rows together. */
function Sums({ rows }) {
  const all = sum(rows);
  const figures = [
    ["Requests", count(all.requests), `${count(all.errors)} failed, ${count(all.cancelled)} cancelled`],
    ["Tokens of prompts", count(all.promptTokens), `${percent(all.cachedTokens, all.promptTokens)} from a cache`],
    ["Tokens of answers", count(all.completionTokens), `${percent(all.reasoningTokens, all.completionTokens)} reasoning`],
    ["Engine time", seconds(all.engineSeconds), "shared by what ran at once"],
  ];
  return html`<dl class="sums">
    ${figures.map(([name, figure, note]) => html`<div key=${name} class="card"><dt>${name}</dt><dd><strong>${figure}</strong><span class="faint">${note}</span></dd></div>`)}
  </dl>`;
}

function Days({ rows, since, until }) {
  const byDay = grouped(rows, (row) => row.day);
  const columns = [];
  for (let day = Date.parse(since); day <= Date.parse(until); day += DAY_MS) {
    const { completionTokens: out = 0, promptTokens: into = 0, requests = 0 } = byDay.get(isoDay(day)) ?? {};
    const name = shortDay.format(day);
    columns.push({ name, values: [out, into], text: `${name}: ${count(requests)} requests, ${count(into)} tokens of prompts, ${count(out)} of answers` });
  }
  const busiest = columns.reduce((one, other) => (total(other) > total(one) ? other : one));
  return html`<section class="card" aria-labelledby="days-title">
    <h2 id="days-title">Tokens by day</h2>
    <${Columns} label=${`Tokens by day. The most: ${busiest.text}`} columns=${columns} series=${SERIES} show=${count} />
  </section>`;
}

function Shares({ rows, by, nameOf }) {
  const shares = [...grouped(rows, (row) => row[by] ?? "-")].map(([name, counts]) => ({ name, ...counts }));
  shares.sort(by === "day" ? (one, other) => (one.name < other.name ? 1 : -1) : (one, other) => tokens(other) - tokens(one));
  const figure = (title, field, show = count) => ({ title, kind: "figure", of: (share) => show(share[field]) });
  const columns = [
    { title: by[0].toUpperCase() + by.slice(1), of: ({ name }) => html`<${Name} by=${by} name=${name} nameOf=${nameOf} />` },
    figure("Requests", "requests"),
    figure("Failed", "errors"),
    figure("Cancelled", "cancelled"),
    figure("Prompts", "promptTokens"),
    figure("Cached", "cachedTokens"),
    figure("Answers", "completionTokens"),
    figure("Reasoning", "reasoningTokens"),
    figure("Engine", "engineSeconds", seconds),
  ];
  return html`<${Table} label=${`Table of usage by ${by}`} columns=${columns} rows=${shares} keyOf=${({ name }) => name} />`;
}

/** A key or a model of the table leads to its own usage. */
function Name({ by, name, nameOf }) {
  if (by === "day") return shortDay.format(Date.parse(name));
  const other = by === "key" ? "model" : "key";
  return html`<button type="button" class="plain" onClick=${() => setParameters({ [by]: name, by: session.value.admin ? other : "day" })}>
    ${by === "key" ? nameOf(name) : name}
  </button>`;
}

function sum(rows) {
  return Object.fromEntries(FIELDS.map((field) => [field, rows.reduce((known, row) => known + row[field], 0)]));
}

function grouped(rows, nameOf) {
  const groups = new Map();
  for (const row of rows) groups.set(nameOf(row), [...(groups.get(nameOf(row)) ?? []), row]);
  return new Map([...groups].map(([name, members]) => [name, sum(members)]));
}

const tokens = ({ promptTokens, completionTokens }) => promptTokens + completionTokens;
const total = ({ values }) => values.reduce((known, value) => known + value, 0);
const isoDay = (ms) => new Date(ms).toISOString().slice(0, 10);
const percent = (part, whole) => (whole ? `${Math.round((100 * part) / whole)} %` : "none");

/** Have the browser save the rows, as `ew usage --csv` has them. */
function save(rows, nameOf, isOperator) {
  const head = [...(isOperator ? ["key", "name"] : []), "model", "day", ...FIELDS.map((field) => field.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`))];
  const lines = rows.map((row) => [...(isOperator ? [row.key, nameOf(row.key)] : []), row.model, row.day, ...FIELDS.map((field) => row[field])]);
  const text = [head, ...lines].map((line) => line.map(quoted).join(",")).join("\r\n");
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([`${text}\r\n`], { type: "text/csv" }));
  link.download = `usage-${isoDay(Date.now())}.csv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/** A spreadsheet would run a text that begins so. */
function quoted(value) {
  const text = /^[=+\-@\t\r]./.test(String(value)) && typeof value !== "number" ? `'${value}` : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
