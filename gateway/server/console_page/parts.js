/** What several pages are made of. */
import { ask } from "./api.js";
import { html, useEffect, useRef, useState } from "./html.js";
import { heard } from "./live.js";

/** A state in a word and a colour. */
export function State({ of, stage = "" }) {
  return html`<span class="state ${of}">${of}</span>${stage && html` <span class="faint">${stage}</span>`}`;
}

/** Parts of a whole as one bar. `parts`: `{ label, value, kind }`; the rest is free. */
export function Bar({ total, parts, text }) {
  return html`<div class="bar" role="img" aria-label=${text}>
    ${parts.map(
      ({ label, value, kind }) =>
        value > 0 &&
        html`<span
          key=${label}
          class=${kind}
          title=${label}
          style=${{ width: `${Math.min(100, (100 * value) / total)}%` }}
        ></span>`,
    )}
  </div>`;
}

/** A button that does something which may fail, and says so. */
export function Action({ label, run, kind = "", confirm = "", onFailure, disabled = false }) {
  const [isBusy, setBusy] = useState(false);
  const act = async () => {
    if (confirm && !window.confirm(confirm)) return;
    setBusy(true);
    try {
      await run();
    } catch (failure) {
      onFailure?.(failure);
    } finally {
      setBusy(false);
    }
  };
  return html`<button type="button" class=${kind} disabled=${disabled || isBusy} onClick=${act}>
    ${label}
  </button>`;
}

/** A text with a button that copies it. */
export function Copyable({ text, label }) {
  const [isCopied, setCopied] = useState(false);
  const copy = async () => {
    await copyText(text);
    setCopied(true);
    setTimeout(() => setCopied(false), 2000);
  };
  return html`<div class="copyable">
    <pre tabindex="0" aria-label=${label}>${text}</pre>
    <button type="button" onClick=${copy} aria-label=${`Copy ${label}`}>
      ${isCopied ? "Copied" : "Copy"}
    </button>
  </div>`;
}

/** The clipboard of browsers is only there by TLS and on this host itself. */
async function copyText(text) {
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(text);
    return;
  }
  const area = document.createElement("textarea");
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

/** What went wrong, read out by screen readers. */
export function Notice({ children, kind = "bad" }) {
  return html`<p class="notice ${kind}" role="status">${children}</p>`;
}

/** Call `tick` at once, when `subject` changes, and then every so many milliseconds, if they are given,
 * while the page is seen. */
export function useInterval(tick, everyMs, subject) {
  const latest = useRef(tick);
  latest.current = tick;
  useEffect(() => {
    let timer = null;
    let isOver = false;
    const run = async () => {
      if (!document.hidden) await latest.current();
      if (!isOver && everyMs) timer = setTimeout(run, everyMs);
    };
    run();
    return () => {
      isOver = true;
      clearTimeout(timer);
    };
  }, [everyMs, subject]);
}

/** Ask for a path (none, if it is null) at once, when it changes, and every so many milliseconds (never,
 * if they are not given) while the page is seen. Returns `[found, problem, look]`: the last answer, or null; why there
 * is none at the moment; a function that asks now. */
export function useAsked(path, everyMs) {
  const [found, setFound] = useState(null);
  const [problem, setProblem] = useState("");
  const latest = useRef(path);
  latest.current = path;
  const look = async () => {
    if (!path) return;
    try {
      const answer = await ask("GET", path);
      // Another may have been asked for meanwhile.
      if (latest.current !== path) return;
      setFound(answer);
      setProblem("");
    } catch (failure) {
      heard(failure);
      setProblem(failure.message);
    }
  };
  useInterval(look, everyMs, path);
  return [found, problem, look];
}
