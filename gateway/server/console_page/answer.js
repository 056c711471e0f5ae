/** One answer of a model, as it comes: text, tokens with their logprobs, calls of tools. */
import { milliseconds, number } from "./format.js";
import { html, useEffect, useState } from "./html.js";
import { Table } from "./table.js";

const LEAST_CERTAIN = 10;

/** `reply` is called with what the tools that it called have returned. */
export function Answer({ model, answer, reply }) {
  const [shown, setShown] = useState("markdown");
  if (!answer) return html`<article class="answer" aria-label=${`Answer of ${model}`}><h2>${model}</h2></article>`;
  const { text, reasoning, calls, tokens, stage, resumed, end } = answer;
  const toggle = (kind) => html`<button type="button" class="plain" aria-pressed=${shown === kind} onClick=${() => setShown(shown === kind ? "text" : kind)}>${kind === "tokens" ? "Tokens" : "Markdown"}</button>`;
  return html`<article class="answer" aria-label=${`Answer of ${model}`} aria-busy=${!end}>
    <h2>${model}</h2>
    ${reasoning && html`<details><summary>Reasoning</summary><p class="text">${reasoning}</p></details>`}
    ${shown === "tokens" && tokens.length
      ? html`<${Tokens} tokens=${tokens} />`
      : end && shown === "markdown" && text
        ? html`<${Rendered} text=${text} />`
        : html`<p class="text">${text}</p>`}
    ${calls.length > 0 && html`<${Calls} calls=${calls} reply=${end && !end.error ? reply : null} />`}
    <p class="faint foot">
      ${stage && html`<span role="status">${stage}</span>`}
      ${end?.error && html`<span class="bad" role="status">${end.error}</span>`}
      ${end && !end.error && html`<span role="status">${summary(end)}</span>`}
      ${resumed > 0 && html`<span>, taken up again ${resumed === 1 ? "once" : `${resumed} times`}</span>`}
      ${end && text && toggle("markdown")}
      ${tokens.length > 0 && toggle("tokens")}
    </p>
  </article>`;
}

function summary({ reason, usage, timings }) {
  if (!usage) return reason;
  const rate = usage.completionTokens / Math.max(0.001, (timings.totalMs - timings.firstTokenMs) / 1000);
  return `${reason}: ${usage.completionTokens} tokens, first after ${milliseconds(timings.firstTokenMs)}, ${number(rate)} tokens/s`;
}

function Rendered({ text }) {
  const [made, setMade] = useState(null);
  useEffect(() => {
    let isOver = false;
    import("./markdown.js").then(({ markdown }) => {
      if (!isOver) setMade({ __html: markdown(text) });
    });
    return () => {
      isOver = true;
    };
  }, [text]);
  // The text stands there until it is rendered.
  if (!made) return html`<p class="text">${text}</p>`;
  return html`<div class="rendered" dangerouslySetInnerHTML=${made}></div>`;
}

/** The text, token by token: the less likely one was, the darker it is. */
function Tokens({ tokens }) {
  const least = [...tokens].sort((one, other) => one.logprob - other.logprob).slice(0, LEAST_CERTAIN);
  const columns = [
    { title: "Token", of: ({ token }) => html`<code>${JSON.stringify(token)}</code>` },
    { title: "Probability", kind: "figure", of: ({ logprob }) => percent(logprob) },
    { title: "Instead", kind: "words", of: ({ token, top_logprobs: top }) => othersOf(token, top) },
  ];
  return html`
    <p class="text">${tokens.map((each, index) => html`<span key=${index} class=${`token ${levelOf(each.logprob)}`} title=${`${percent(each.logprob)}; instead: ${othersOf(each.token, each.top_logprobs)}`}>${each.token}</span>`)}</p>
    <details><summary>The ${least.length} least likely</summary>
      <${Table} label="Table of tokens" columns=${columns} rows=${least} keyOf=${(each) => tokens.indexOf(each)} isNamed=${false} />
    </details>
  `;
}

const percent = (logprob) => `${(100 * Math.exp(logprob)).toFixed(1)} %`;

function othersOf(token, top = []) {
  const others = top.filter((each) => each.token !== token);
  return others.map((each) => `${JSON.stringify(each.token)} ${percent(each.logprob)}`).join(", ") || "nothing else is told";
}

function levelOf(logprob) {
  const likely = Math.exp(logprob);
  if (likely >= 0.9) return "";
  return likely >= 0.6 ? "likely" : likely >= 0.3 ? "unsure" : "unlikely";
}

/** What the model wants called; a person says what comes of it. */
function Calls({ calls, reply }) {
  const [results, setResults] = useState(calls.map(() => ""));
  const [isSent, setSent] = useState(false);
  const submit = (event) => {
    event.preventDefault();
    setSent(true);
    reply(calls.map(({ id }, index) => ({ role: "tool", tool_call_id: id, content: results[index] ?? "" })));
  };
  const change = (index) => (event) => setResults(calls.map((_, each) => (each === index ? event.target.value : (results[each] ?? ""))));
  return html`<form class="calls" onSubmit=${submit}>
    ${calls.map(
      (call, index) => html`<div key=${index}>
        <p>calls <code>${call.name}(${call.arguments})</code></p>
        ${reply && !isSent && html`<label>It returned <textarea rows="1" value=${results[index]} onInput=${change(index)}></textarea></label>`}
      </div>`,
    )}
    ${reply && !isSent && html`<p class="controls"><button type="submit">Send what ${calls.length === 1 ? "it" : "they"} returned</button></p>`}
  </form>`;
}
