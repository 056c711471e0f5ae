/** Logs of all processes, as they are written. */
import { parameter, setParameters } from "../address.js";
import { ask, events, pause } from "../api.js";
import { html, useEffect, useMemo, useRef, useState } from "../html.js";
import { ADMIN, heard } from "../live.js";
import { Notice } from "../parts.js";

const MOST_LINES = 2000;
const FIRST_LINES = 300;
const LEVELS = ["DEBUG", "INFO", "WARNING", "ERROR"];
const RANK = { DEBUG: 0, INFO: 1, WARNING: 2, ERROR: 3, CRITICAL: 3 };

export default function Logs() {
  const [units, setUnits] = useState([]);
  const chosen = parameter("unit");
  const level = parameter("level", "DEBUG");
  const word = parameter("text");
  const [isPaused, setPaused] = useState(false);
  const [problem, setProblem] = useState("");
  useEffect(() => {
    ask("GET", `${ADMIN}/logs/units`).then((found) => setUnits(found.units), (failure) => setProblem(failure.message));
  }, []);
  const lines = useLines(chosen, isPaused, setProblem);
  const shown = useMemo(() => {
    const wanted = word.trim().toLowerCase();
    return lines.filter((line) => (RANK[line.level] ?? 1) >= RANK[level] && (!wanted || line.message.toLowerCase().includes(wanted)));
  }, [lines, level, word]);
  return html`
    <h1>Logs</h1>
    ${problem && html`<${Notice}>${problem}<//>`}
    <p class="controls">
      <label>Of
        <select value=${chosen} onChange=${(event) => setParameters({ unit: event.target.value })}>
          <option value="">all processes</option>
          ${chosen.includes(",") && html`<option value=${chosen}>${chosen}</option>`}
          ${units.map((unit) => html`<option key=${unit} value=${unit}>${unit}</option>`)}
        </select>
      </label>
      <label>From level
        <select value=${level} onChange=${(event) => setParameters({ level: event.target.value })}>
          ${LEVELS.map((each) => html`<option key=${each} value=${each}>${each.toLowerCase()}</option>`)}
        </select>
      </label>
      <label>With the text <input type="search" value=${word} onInput=${(event) => setParameters({ text: event.target.value })} /></label>
      <button type="button" aria-pressed=${isPaused} onClick=${() => setPaused(!isPaused)}>${isPaused ? "Go on" : "Pause"}</button>
    </p>
    <${Lines} lines=${shown} />
  `;
}

/** Return the last lines of some units, and those that are written. */
function useLines(chosen, isPaused, setProblem) {
  const [lines, setLines] = useState([]);
  useEffect(() => {
    if (isPaused) return undefined;
    const left = new AbortController();
    follow(chosen, left.signal, setLines, setProblem);
    return () => left.abort();
  }, [chosen, isPaused]);
  return lines;
}

async function follow(chosen, signal, setLines, setProblem) {
  const query = new URLSearchParams({ lines: FIRST_LINES });
  for (const unit of chosen.split(",").filter(Boolean)) query.append("unit", unit);
  while (!signal.aborted) {
    try {
      let isFirst = true;
      for await (const { data } of events(`${ADMIN}/logs/stream?${query}`, { signal })) {
        setProblem("");
        const before = isFirst ? [] : null;
        isFirst = false;
        setLines((known) => [...(before ?? known), ...data.lines].slice(-MOST_LINES));
      }
    } catch (failure) {
      if (signal.aborted) return;
      heard(failure);
      setProblem(`${failure.message}; connecting again`);
    }
    await pause(1000, signal);
  }
}

/** The end is in view, unless the reader has gone up. */
function Lines({ lines }) {
  const place = useRef(null);
  const isAtEnd = useRef(true);
  const onScroll = () => {
    const { scrollTop, scrollHeight, clientHeight } = place.current;
    isAtEnd.current = scrollHeight - scrollTop - clientHeight < 40;
  };
  useEffect(() => {
    if (isAtEnd.current) place.current.scrollTop = place.current.scrollHeight;
  }, [lines]);
  return html`<div class="log" ref=${place} onScroll=${onScroll} tabindex="0" role="log" aria-label="Log lines" aria-live="off">
    ${lines.map(
      (line, index) => html`<div key=${index} class=${line.level?.toLowerCase() ?? ""}>
        <span class="faint">${line.time?.slice(11, 23) ?? ""} ${line.unit}</span> ${line.level && `${line.level} `}${line.message}
      </div>`,
    )}
  </div>`;
}
