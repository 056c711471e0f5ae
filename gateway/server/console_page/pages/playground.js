/** A conversation with a model, or with two at once. */
import { ask } from "../api.js";
import { answerOf } from "../conversation.js";
import { milliseconds, number } from "../format.js";
import { html, useEffect, useRef, useState } from "../html.js";
import { heard } from "../live.js";
import { Copyable, Notice } from "../parts.js";
import { snippetsFor } from "../snippets.js";

export default function Playground() {
  const [models, setModels] = useState([]);
  const [chosen, setChosen] = useState(["", ""]);
  const [options, setOptions] = useState({ system: "", temperature: "", maxTokens: "512" });
  const [turns, setTurns] = useState([]);
  const [problem, setProblem] = useState("");
  const running = useRef(null);
  const [isBusy, setBusy] = useState(false);
  useEffect(() => {
    ask("GET", "/api/v1/models").then(
      ({ models: found }) => {
        setModels(found);
        setChosen([found[0]?.id ?? "", ""]);
      },
      (failure) => {
        heard(failure);
        setProblem(failure.message);
      },
    );
    return () => running.current?.abort();
  }, []);
  const names = chosen.filter(Boolean);

  const send = async (question) => {
    setProblem("");
    setBusy(true);
    running.current = new AbortController();
    const { signal } = running.current;
    const turn = { question, answers: Object.fromEntries(names.map((name) => [name, null])) };
    const at = turns.length;
    setTurns([...turns, turn]);
    const tell = frames((name, answer) =>
      setTurns((known) => known.map((each, index) => (index === at ? { ...each, answers: { ...each.answers, [name]: answer } } : each))),
    );
    await Promise.all(
      names.map((name) =>
        answerOf(bodyOf(name, options, turns, question), (answer) => tell(name, { ...answer }), signal).catch((failure) => {
          heard(failure);
          tell(name, { text: "", reasoning: "", stage: "", resumed: 0, end: { error: failure.message } });
        }),
      ),
    );
    running.current = null;
    setBusy(false);
  };

  return html`
    <h1>Playground</h1>
    ${problem && html`<${Notice}>${problem}<//>`}
    <${Controls} models=${models} chosen=${chosen} setChosen=${setChosen} options=${options} setOptions=${setOptions} />
    <div class="conversation">
      ${turns.map(
        (turn, index) => html`<section key=${index} aria-label=${`Question ${index + 1}`}>
          <p class="question">${turn.question}</p>
          <div class="answers">
            ${Object.entries(turn.answers).map(([name, answer]) => html`<${Answer} key=${name} model=${name} answer=${answer} />`)}
          </div>
        </section>`,
      )}
    </div>
    <${Question} send=${send} isBusy=${isBusy} stop=${() => running.current?.abort()} clear=${() => setTurns([])} canSend=${names.length > 0} canClear=${turns.length > 0 && !isBusy} />
    <${Calling} model=${names[0] ?? ""} />
  `;
}

/** Return a function that tells of each answer once a frame at most: tokens come faster than that. */
function frames(tell) {
  const latest = new Map();
  let isAsked = false;
  return (name, answer) => {
    latest.set(name, answer);
    if (isAsked) return;
    isAsked = true;
    const flush = () => {
      isAsked = false;
      for (const [each, of] of latest) tell(each, of);
      latest.clear();
    };
    // A page that is not seen has no frames.
    if (document.hidden) setTimeout(flush, 100);
    else requestAnimationFrame(flush);
  };
}

function bodyOf(model, { system, temperature, maxTokens }, turns, question) {
  const said = turns
    .filter(({ answers }) => answers[model]?.text && !answers[model].end?.error)
    .flatMap((turn) => [
      { role: "user", content: turn.question },
      { role: "assistant", content: turn.answers[model].text },
    ]);
  const body = { modelId: model, messages: [...said, { role: "user", content: question }] };
  if (system.trim()) body.messages.unshift({ role: "system", content: system });
  if (temperature !== "") body.temperature = Number(temperature);
  if (maxTokens !== "") body.maxTokens = Number(maxTokens);
  return body;
}

function Controls({ models, chosen, setChosen, options, setOptions }) {
  const choose = (place) => (event) => setChosen(chosen.map((name, index) => (index === place ? event.target.value : name)));
  const set = (name) => (event) => setOptions({ ...options, [name]: event.target.value });
  const entries = models.map(({ id, state }) => html`<option key=${id} value=${id}>${id} (${state})</option>`);
  return html`<div class="card fields">
    <label>Model <select value=${chosen[0]} onChange=${choose(0)}>${entries}</select></label>
    <label>Beside it <select value=${chosen[1]} onChange=${choose(1)}><option value="">no other</option>${entries}</select></label>
    <label>Temperature <input type="number" min="0" max="2" step="0.1" placeholder="the model's" value=${options.temperature} onInput=${set("temperature")} /></label>
    <label>Most tokens <input type="number" min="1" step="1" placeholder="the model's" value=${options.maxTokens} onInput=${set("maxTokens")} /></label>
    <label class="whole">System prompt <textarea rows="1" value=${options.system} onInput=${set("system")}></textarea></label>
  </div>`;
}

function Answer({ model, answer }) {
  const [isMarkdown, setMarkdown] = useState(true);
  if (!answer) return html`<article class="answer" aria-label=${`Answer of ${model}`}><h2>${model}</h2></article>`;
  const { text, reasoning, stage, resumed, end } = answer;
  return html`<article class="answer" aria-label=${`Answer of ${model}`} aria-busy=${!end}>
    <h2>${model}</h2>
    ${reasoning && html`<details><summary>Reasoning</summary><p class="text">${reasoning}</p></details>`}
    ${end && isMarkdown && text ? html`<${Rendered} text=${text} />` : html`<p class="text">${text}</p>`}
    <p class="faint foot">
      ${stage && html`<span role="status">${stage}</span>`}
      ${end?.error && html`<span class="bad" role="status">${end.error}</span>`}
      ${end && !end.error && html`<span role="status">${summary(end)}</span>`}
      ${resumed > 0 && html`<span>, taken up again ${resumed === 1 ? "once" : `${resumed} times`}</span>`}
      ${end && text && html`<button type="button" class="plain" aria-pressed=${isMarkdown} onClick=${() => setMarkdown(!isMarkdown)}>Markdown</button>`}
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
    import("../markdown.js").then(({ markdown }) => {
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

function Question({ send, isBusy, stop, clear, canSend, canClear }) {
  const [text, setText] = useState("");
  const submit = (event) => {
    event?.preventDefault();
    if (!text.trim() || isBusy || !canSend) return;
    send(text);
    setText("");
  };
  const onKeyDown = (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) submit(event);
  };
  return html`<form class="ask" onSubmit=${submit}>
    <label for="question">Your question <span class="faint">(Enter sends, Shift+Enter begins a line)</span></label>
    <textarea id="question" rows="3" value=${text} onInput=${(event) => setText(event.target.value)} onKeyDown=${onKeyDown}></textarea>
    <p class="controls">
      ${isBusy ? html`<button type="button" onClick=${stop}>Stop</button>` : html`<button type="submit" class="main" disabled=${!canSend}>Send</button>`}
      <button type="button" disabled=${!canClear} onClick=${clear}>Begin anew</button>
    </p>
  </form>`;
}

function Calling({ model }) {
  const snippets = snippetsFor(model);
  const [name, setName] = useState(snippets[0][0]);
  const text = snippets.find(([each]) => each === name)[1];
  return html`<section aria-labelledby="calling-title">
    <h2 id="calling-title">How to call it</h2>
    <p class="controls" role="group" aria-label="Client">
      ${snippets.map(([each]) => html`<button key=${each} type="button" aria-pressed=${each === name} onClick=${() => setName(each)}>${each}</button>`)}
    </p>
    <${Copyable} text=${text} label=${`the call of ${name}`} />
  </section>`;
}
