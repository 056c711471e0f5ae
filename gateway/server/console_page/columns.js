/** Stacked columns, one for each of a row of things in order, as days are. */
import { html } from "./html.js";

/** `columns`: `{ name, values, text }`, with one value for each of the `series` (`{ label, kind }`), the
 * lowest first. What is drawn is in a table beside it: the picture itself is described by `label`. */
export function Columns({ label, columns, series, show }) {
  const sums = columns.map(({ values }) => values.reduce((sum, value) => sum + value, 0));
  const most = Math.max(1, ...sums);
  const first = columns[0]?.name ?? "";
  const last = columns[columns.length - 1]?.name ?? "";
  return html`<figure class="columns-plot">
    <${Legend} series=${series} />
    <div class="frame">
      <span class="faint most">${show(most)}</span>
      <div class="columns" role="img" aria-label=${label}>
        ${columns.map(
          ({ name, values, text }) => html`<div key=${name} class="column" title=${text}>
            ${values.map((value, index) => html`<span key=${index} class=${series[index].kind} style=${{ height: `${(100 * value) / most}%` }}></span>`)}
          </div>`,
        )}
      </div>
    </div>
    <figcaption class="faint"><span>${first}</span><span>${last}</span></figcaption>
  </figure>`;
}

/** Which colour is which. `series`: `{ label, kind }`, where `kind` is a class that has a colour. */
export function Legend({ series }) {
  return html`<p class="legend faint">${series.map(({ label, kind }) => html`<span key=${label}><span class=${`swatch ${kind}`} aria-hidden="true"></span>${label}</span>`)}</p>`;
}
