/** Changes by operators, as the audit log has them. */
import { date } from "./format.js";
import { html } from "./html.js";
import { Table } from "./table.js";

export function Changes({ entries }) {
  if (!entries.length) return html`<p class="faint">None is noted.</p>`;
  const columns = [
    { title: "When", of: ({ time }) => (time ? date(Date.parse(time) / 1000) : "") },
    { title: "Key", of: (each) => html`${each.key_name} <span class="faint">${each.key_id}</span>` },
    { title: "From", of: ({ address }) => address },
    { title: "Change", kind: "words", of: ({ change }) => inWords(change) },
  ];
  return html`<${Table} label="Table of changes" columns=${columns} rows=${entries} keyOf=${(each) => `${each.time} ${each.change}`} isNamed=${false} />`;
}

/** Return what was asked for as its kind and its fields. */
function inWords(change) {
  try {
    const { type, ...fields } = JSON.parse(change);
    const said = Object.entries(fields).map(([name, value]) => `${name} ${typeof value === "string" ? value : JSON.stringify(value)}`);
    return [type.replaceAll("_", " "), said.join(", ")].join(": ");
  } catch {
    return change;
  }
}
