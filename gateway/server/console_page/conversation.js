/** One answer of a model, which goes on without its page and is taken up again after the last event that
 * came: as a background job (docs/jobs.md), or, where tools or logprobs are asked for, as a chat completion
 * with an `Idempotency-Key` (docs/api.md). */
import { ApiFailure, ask, events, pause } from "./api.js";
import { ADMIN, session } from "./live.js";

const JOBS = "/api/v1/jobs";
const CHAT = "/v1/chat/completions";
const MOST_TRIES = 60;

/** Ask, and call `tell` with each change of the answer: `{ text, reasoning, calls, tokens, stage, resumed,
 * end }`. `calls` are of tools; `tokens` have their logprobs. `end` is there once it has ended: `{ reason,
 * usage, timings }`, or `{ error }`. `asked` is `{ body, isChat }`. When `signal` is aborted the job is
 * cancelled; a `cut` event of `cutter` breaks the connection. Throws `ApiFailure` if it is not taken. */
export async function answerOf({ body, isChat }, tell, signal, cutter) {
  const road = isChat ? chatOf(body) : await jobOf(body);
  const answer = { text: "", reasoning: "", calls: [], tokens: [], stage: "queued", resumed: 0, end: null };
  const change = (fields) => tell(Object.assign(answer, fields));
  change({});
  const reading = { last: "" };
  for (let tries = 0; !answer.end; tries += 1) {
    const before = reading.last;
    try {
      await listen(road, reading, answer, change, signal, cutter);
    } catch (failure) {
      if (signal.aborted) break;
      const isFinal = failure.status && failure.status < 500;
      if (isFinal || tries >= MOST_TRIES) change({ end: { error: failure.message } });
    }
    if (answer.end || signal.aborted) break;
    if (reading.last !== before) tries = 0;
    change({ resumed: answer.resumed + 1, stage: "connection cut; taking it up again" });
    await pause(Math.min(3000, 300 * (tries + 1)), signal);
  }
  if (signal.aborted && !answer.end) {
    await road.cancel().catch(() => null);
    change({ end: { reason: "stopped" } });
  }
}

/** Read events after the last one that came. */
async function listen(road, reading, answer, change, signal, cutter) {
  const connection = new AbortController();
  const cut = () => connection.abort();
  signal.addEventListener("abort", cut);
  cutter.addEventListener("cut", cut);
  const headers = reading.last ? { "last-event-id": reading.last } : {};
  try {
    for await (const event of road.open(headers, connection.signal)) {
      if (event.id) reading.last = event.id;
      change(road.fieldsOf(event, answer));
      if (answer.end) return;
    }
  } finally {
    signal.removeEventListener("abort", cut);
    cutter.removeEventListener("cut", cut);
  }
}

/** Put a background job. Throws `ApiFailure`. */
async function jobOf(body) {
  const job = await ask("POST", JOBS, { ...body, priorityClass: session.value.priority });
  return {
    open: (headers, signal) => events(`${JOBS}/${job.id}/stream`, { signal, headers }),
    cancel: () => ask("POST", `${JOBS}/${job.id}/cancel`),
    fieldsOf: fieldsOfJob,
  };
}

function fieldsOfJob({ name, data }, answer) {
  switch (name) {
    case "":
      return data.text != null
        ? { text: answer.text + data.text, stage: "" }
        : { reasoning: answer.reasoning + data.reasoning, stage: "" };
    case "status":
      return { stage: data.etaS == null ? data.stage : `${data.stage}, about ${Math.round(data.etaS)} s` };
    case "done":
      return { stage: "", end: { reason: data.finishReason, usage: data.usage, timings: data.timings } };
    case "error":
      return { stage: "", end: { error: `${data.message} (${data.code})` } };
    default:
      return {};
  }
}

/** A chat completion: the same request again, with the same key, goes on with the same answer. */
function chatOf(body) {
  const began = performance.now();
  const key = Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
  let job = "";
  let first = 0;
  let reason = "";
  return {
    open: (headers, signal) => events(CHAT, { method: "POST", body, signal, headers: { ...headers, "idempotency-key": key } }),
    // The API itself has no way to cancel what goes on without its client.
    cancel: async () => session.value.admin && job && ask("POST", `${ADMIN}/requests/${job}/cancel`),
    fieldsOf({ data }, answer) {
      if (data.error) return { stage: "", end: { error: `${data.error.message} (${data.error.code})` } };
      job ||= data.id?.replace(/^\w+-/, "") ?? "";
      const choice = data.choices?.[0];
      if (choice) first ||= performance.now() - began;
      reason = choice?.finish_reason || reason;
      const fields = choice ? fieldsOfChoice(choice, answer) : {};
      if (!data.usage) return fields;
      const usage = { completionTokens: data.usage.completion_tokens };
      return { ...fields, end: { reason, usage, timings: { firstTokenMs: first, totalMs: performance.now() - began } } };
    },
  };
}

function fieldsOfChoice({ delta = {}, logprobs }, answer) {
  const calls = answer.calls.map((each) => ({ ...each }));
  for (const { index, id, function: called } of delta.tool_calls ?? []) {
    calls[index] ??= { id: "", name: "", arguments: "" };
    calls[index].id ||= id ?? "";
    calls[index].name += called?.name ?? "";
    calls[index].arguments += called?.arguments ?? "";
  }
  return {
    text: answer.text + (delta.content ?? ""),
    reasoning: answer.reasoning + (delta.reasoning ?? delta.reasoning_content ?? ""),
    calls,
    tokens: logprobs?.content ? [...answer.tokens, ...logprobs.content] : answer.tokens,
    stage: "",
  };
}
