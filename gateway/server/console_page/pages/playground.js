/** A conversation with a model, or with two at once. */
import { ask } from "../api.js";
import { Answer } from "../answer.js";
import { askedOf, contentOf, imageOf } from "../asking.js";
import { answerOf } from "../conversation.js";
import { html, useEffect, useRef, useState } from "../html.js";
import { heard } from "../live.js";
import { Copyable, Notice } from "../parts.js";
import { snippetsFor } from "../snippets.js";

export default function Playground() {
  const [models, setModels] = useState([]);
  const [chosen, setChosen] = useState(["", ""]);
  const [options, setOptions] = useState({ system: "", temperature: "", maxTokens: "512", tools: "", logprobs: false });
  const [turns, setTurns] = useState([]);
  const [problem, setProblem] = useState("");
  const running = useRef(null);
  const cutter = useRef(new EventTarget());
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

  const send = (question, images) => {
    const content = contentOf(question, images);
    const shown = [question, ...images.map(({ name }) => `[image ${name}]`)].join("\n");
    return say(shown, Object.fromEntries(names.map((name) => [name, [{ role: "user", content }]])));
  };
  const reply = (name) => (results) => say(`What ${results.length === 1 ? "it" : "they"} returned: ${results.map((each) => each.content).join("; ")}`, { [name]: results });

  /** Say something to models; `said` has the messages for each. */
  const say = async (question, said) => {
    setProblem("");
    let asked;
    try {
      asked = Object.entries(said).map(([name, messages]) => [name, askedOf(name, options, turns, messages)]);
    } catch (failure) {
      setProblem(failure.message);
      return false;
    }
    setBusy(true);
    running.current = new AbortController();
    const { signal } = running.current;
    const turn = { question, said, answers: Object.fromEntries(asked.map(([name]) => [name, null])) };
    const at = turns.length;
    setTurns([...turns, turn]);
    const tell = frames((name, answer) =>
      setTurns((known) => known.map((each, index) => (index === at ? { ...each, answers: { ...each.answers, [name]: answer } } : each))),
    );
    await Promise.all(
      asked.map(([name, body]) =>
        answerOf(body, (answer) => tell(name, { ...answer }), signal, cutter.current).catch((failure) => {
          heard(failure);
          tell(name, { text: "", reasoning: "", calls: [], tokens: [], stage: "", resumed: 0, end: { error: failure.message } });
        }),
      ),
    );
    running.current = null;
    setBusy(false);
    return true;
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
            ${Object.entries(turn.answers).map(([name, answer]) => html`<${Answer} key=${name} model=${name} answer=${answer} reply=${isBusy || index !== turns.length - 1 ? null : reply(name)} />`)}
          </div>
        </section>`,
      )}
    </div>
    <${Question} send=${send} isBusy=${isBusy} stop=${() => running.current?.abort()} cut=${() => cutter.current.dispatchEvent(new Event("cut"))} clear=${() => setTurns([])} canSend=${names.length > 0} canClear=${turns.length > 0 && !isBusy} />
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

const TOOLS = '[{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}]';

function Controls({ models, chosen, setChosen, options, setOptions }) {
  const choose = (place) => (event) => setChosen(chosen.map((name, index) => (index === place ? event.target.value : name)));
  const set = (name) => (event) => setOptions({ ...options, [name]: event.target.value });
  const entries = models.map(({ id, state }) => html`<option key=${id} value=${id}>${id} (${state})</option>`);
  return html`<div class="card fields">
    <label>Model <select value=${chosen[0]} onChange=${choose(0)}>${entries}</select></label>
    <label>Beside it <select value=${chosen[1]} onChange=${choose(1)}><option value="">no other</option>${entries}</select></label>
    <label>Temperature <input type="number" min="0" max="2" step="0.1" placeholder="the model's" value=${options.temperature} onInput=${set("temperature")} /></label>
    <label>Most tokens <input type="number" min="1" step="1" placeholder="the model's" value=${options.maxTokens} onInput=${set("maxTokens")} /></label>
    <label class="check"><input type="checkbox" checked=${options.logprobs} onChange=${(event) => setOptions({ ...options, logprobs: event.target.checked })} /> Logprobs of tokens</label>
    <label class="whole">Tools <textarea rows="1" spellcheck="false" placeholder=${TOOLS} value=${options.tools} onInput=${set("tools")}></textarea></label>
    <label class="whole">System prompt <textarea rows="1" value=${options.system} onInput=${set("system")}></textarea></label>
  </div>`;
}

function Question({ send, isBusy, stop, cut, clear, canSend, canClear }) {
  const [text, setText] = useState("");
  const [images, setImages] = useState([]);
  const [problem, setProblem] = useState("");
  const submit = (event) => {
    event.preventDefault();
    // The box itself: what came last may not be rendered yet.
    const asked = event.currentTarget.closest("form").elements.question.value;
    if (!asked.trim() || isBusy || !canSend) return;
    send(asked, images);
    setText("");
    setImages([]);
  };
  const add = async (event) => {
    setProblem("");
    try {
      const added = await Promise.all([...event.target.files].map(imageOf));
      setImages([...images, ...added]);
    } catch {
      setProblem("this is no image that the browser can read");
    }
    event.target.value = "";
  };
  const onKeyDown = (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) submit(event);
  };
  return html`<form class="ask" onSubmit=${submit}>
    <label for="question">Your question <span class="faint">(Enter sends, Shift+Enter begins a line)</span></label>
    <textarea id="question" rows="3" value=${text} onInput=${(event) => setText(event.target.value)} onKeyDown=${onKeyDown}></textarea>
    <p class="controls">
      <label>Images <input type="file" accept="image/*" multiple onChange=${add} /></label>
      ${images.map(({ name }, index) => html`<button key=${index} type="button" class="plain" onClick=${() => setImages(images.filter((_, each) => each !== index))}>${name}: take out</button>`)}
      ${problem && html`<span class="bad" role="status">${problem}</span>`}
    </p>
    <p class="controls">
      ${isBusy && html`<button type="button" onClick=${cut} title="Breaks the connection to the gateway: the answer is taken up where it was.">Cut the connection</button>`}
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
