/** One answer of a model, asked for as a background job: it goes on without its page, and its stream
 * is taken up again after the last event that came (docs/jobs.md). */
import { ApiFailure, ask, events, pause } from "./api.js";
import { session } from "./live.js";

const JOBS = "/api/v1/jobs";
const MOST_TRIES = 60;

/** Ask, and call `tell` with each change of the answer: `{ text, reasoning, stage, resumed, end }`.
 * `end` is there once it has ended: `{ reason, usage, timings }`, or `{ error }`. When `signal` is
 * aborted the job is cancelled. Throws `ApiFailure` if the job is not taken. */
export async function answerOf(asked, tell, signal) {
  const job = await ask("POST", JOBS, { ...asked, priorityClass: session.value.priority });
  const answer = { text: "", reasoning: "", stage: "queued", resumed: 0, end: null };
  const change = (fields) => tell(Object.assign(answer, fields));
  change({});
  let last = "";
  for (let tries = 0; !answer.end; tries += 1) {
    const before = last;
    try {
      last = await listen(job.id, last, answer, change, signal);
    } catch (failure) {
      last = failure.last ?? last;
      if (signal.aborted) break;
      const isFinal = failure.status && failure.status < 500;
      if (isFinal || tries >= MOST_TRIES) change({ end: { error: failure.message } });
    }
    if (answer.end || signal.aborted) break;
    if (last !== before) tries = 0;
    change({ resumed: answer.resumed + 1, stage: "connection cut; taking it up again" });
    await pause(Math.min(3000, 300 * (tries + 1)), signal);
  }
  if (signal.aborted && !answer.end) {
    await ask("POST", `${JOBS}/${job.id}/cancel`).catch(() => null);
    change({ end: { reason: "stopped" } });
  }
}

/** Read events after `last`, and return the id of the last one. */
async function listen(id, last, answer, change, signal) {
  const headers = last ? { "last-event-id": last } : {};
  try {
    for await (const event of events(`${JOBS}/${id}/stream`, { signal, headers })) {
      if (event.id) last = event.id;
      change(fieldsOf(event, answer));
      if (answer.end) return last;
    }
  } catch (failure) {
    if (failure instanceof ApiFailure) failure.last = last;
    throw failure;
  }
  return last;
}

function fieldsOf({ name, data }, answer) {
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
