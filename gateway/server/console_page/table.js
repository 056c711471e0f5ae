/** Tables: all of the console's look alike, and scroll in a box of their own. */
import { html } from "./html.js";

/** Rows of things. `columns`: `{ title, of, kind }`, where `of` draws a thing's cell and `kind` is
 * `figure` (a number), `wide`, or `action` (its title is only read out). The first cell names the
 * row, unless `isNamed` is false. */
export function Table({ label, columns, rows, keyOf, isNamed = true }) {
  return html`<div class="scroll" tabindex="0" role="group" aria-label=${label}>
    <table>
      <thead>
        <tr>
          ${columns.map(
            ({ title, kind = "" }) =>
              html`<th key=${title} scope="col" class=${kind}>${kind === "action" ? html`<span class="hidden">${title}</span>` : title}</th>`,
          )}
        </tr>
      </thead>
      <tbody>
        ${rows.map((row) => html`<tr key=${keyOf(row)}>${columns.map((column, index) => cell(column, row, isNamed && index === 0))}</tr>`)}
      </tbody>
    </table>
  </div>`;
}

function cell({ title, of, kind = "" }, row, isName) {
  return isName ? html`<th key=${title} scope="row" class=${kind}>${of(row)}</th>` : html`<td key=${title} class=${kind}>${of(row)}</td>`;
}
