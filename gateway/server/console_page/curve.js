/** Curves over a few steps, such as numbers of streams, which stand at equal distances. */
import { html } from "./html.js";

const EDGE = 4;

/** `steps`: the names of the steps. `series`: `{ name, kind, values }` with one value for each step, or
 * null; `kind` is one of the classes `series-1` to `series-4`. `show` formats a value. */
export function Curve({ label, steps, series, show }) {
  const most = Math.max(0, ...series.flatMap(({ values }) => values.filter((value) => value != null)));
  const left = (index) => (steps.length < 2 ? 50 : EDGE + ((100 - 2 * EDGE) * index) / (steps.length - 1));
  const top = (value) => 100 - (94 * value) / (most || 1);
  return html`<figure class="curve">
    <figcaption>${label}</figcaption>
    <div class="frame" role="img" aria-label=${summary(label, steps, series, show)}>
      <span class="faint most">${most > 0 && show(most)}</span>
      <svg viewBox="0 0 100 100" preserveAspectRatio="none" aria-hidden="true">
        ${series.map(({ name, kind, values }) => html`<polyline key=${name} class=${kind} points=${points(values, left, top)} />`)}
      </svg>
      ${series.map(({ name, kind, values }) =>
        values.map(
          (value, index) =>
            value != null &&
            html`<span key=${`${name} ${index}`} class=${`dot ${kind}`} title=${`${name}, ${steps[index]}: ${show(value)}`} style=${{ left: `${left(index)}%`, top: `${top(value)}%` }}></span>`,
        ),
      )}
    </div>
    <div class="levels faint" aria-hidden="true">${steps.map((step, index) => html`<span key=${step} style=${{ left: `${left(index)}%` }}>${step}</span>`)}</div>
  </figure>`;
}

function points(values, left, top) {
  return values
    .map((value, index) => value != null && `${left(index)},${top(value)}`)
    .filter(Boolean)
    .join(" ");
}

function summary(label, steps, series, show) {
  const told = series.map(({ name, values }) => `${name}: ${values.map((value, index) => `${steps[index]}, ${show(value)}`).join("; ")}`);
  return `${label}. ${told.join(". ")}`;
}
