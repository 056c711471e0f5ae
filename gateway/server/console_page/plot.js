/** Small plots of the last hour, by uPlot. */
import { html, signal, useEffect, useRef } from "./html.js";
import { Legend } from "./columns.js";
import { clock } from "./format.js";

const HEIGHT = 72;
const load = () => import("./vendor/uplot.js");
/** A plot keeps the colours that it was made with: it is made again when the system's change. */
const dark = matchMedia("(prefers-color-scheme: dark)");
const isDark = signal(dark.matches);
dark.addEventListener("change", () => {
  isDark.value = dark.matches;
});

/** `times` are Unix seconds; `series` are `{ label, values, show }`, where `show` formats a value. */
export function Plot({ label, times, series, max }) {
  const place = useRef(null);
  const plot = useRef(null);
  const data = [times, ...series.map((each) => each.values)];
  const names = series.map((each) => each.label).join("|");
  useEffect(() => {
    let isOver = false;
    const element = place.current;
    const follower = new ResizeObserver(() => {
      plot.current?.setSize({ width: element.clientWidth, height: HEIGHT });
    });
    load().then(({ default: UPlot }) => {
      if (isOver) return;
      plot.current = new UPlot(options(element, series, max), data, element);
      follower.observe(element);
    });
    return () => {
      isOver = true;
      follower.disconnect();
      plot.current?.destroy();
      plot.current = null;
    };
  }, [names, max, isDark.value]);
  useEffect(() => plot.current?.setData(data), [times, ...data]);
  return html`<figure class="plot">
    <figcaption>${label}${series.length > 1 && html`<${Legend} series=${series.map(({ label: name }, index) => ({ label: name, kind: `series-${index + 1}` }))} />`}</figcaption>
    <div ref=${place} role="img" aria-label=${summary(label, series)}></div>
  </figure>`;
}

function summary(label, series) {
  const told = series.map(({ label: name, values, show }) => {
    const known = values.filter((value) => value != null);
    if (!known.length) return `${name}: nothing known`;
    return `${name}: now ${show(known[known.length - 1])}, at most ${show(Math.max(...known))}`;
  });
  return `${label}, last hour. ${told.join("; ")}`;
}

/** A canvas knows no `light-dark()`: return the colour that it stands for at the moment. */
function resolved(place, name) {
  place.style.color = `var(${name})`;
  const { color } = getComputedStyle(place);
  place.style.color = "";
  return color;
}

function options(place, series, max) {
  const colour = (name) => resolved(place, name);
  const axis = { stroke: colour("--faint"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false } };
  return {
    width: place.clientWidth,
    height: HEIGHT,
    legend: { show: false },
    cursor: { show: false },
    padding: [6, 4, 0, 0],
    scales: { y: { range: (_, low, high) => [0, max ?? Math.max(1, high ?? 1)] } },
    axes: [
      { ...axis, size: 18, space: 90, values: (_, ticks) => ticks.map((tick) => clock(tick).replace(/:\d\d(?=\D*$)/, "")) },
      { ...axis, size: 46, space: 26, values: (_, ticks) => ticks.map((tick) => series[0].show(tick)) },
    ],
    series: [
      {},
      ...series.map(({ label }, index) => ({
        label,
        stroke: colour(`--plot-${index + 1}`),
        width: 1.5,
        points: { show: false },
      })),
    ],
  };
}
