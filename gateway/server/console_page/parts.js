/** What several pages are made of. */
import { html, useEffect, useRef, useState } from "./html.js";

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

/** Call `tick` at once and then every so many milliseconds, while the page is seen. */
export function useInterval(tick, everyMs) {
  const latest = useRef(tick);
  latest.current = tick;
  useEffect(() => {
    let timer = null;
    let isOver = false;
    const run = async () => {
      if (!document.hidden) await latest.current();
      if (!isOver) timer = setTimeout(run, everyMs);
    };
    run();
    return () => {
      isOver = true;
      clearTimeout(timer);
    };
  }, [everyMs]);
}
