/** From the form of the playground to the body of a request. */

const LONGEST_SIDE = 1024;
const SMALL_BYTES = 400_000;

/** Return `{ body, isChat }` for a model: what was said before, and what is said now. Throws if the tools
 * are no JSON. */
export function askedOf(model, options, turns, said) {
  const before = turns
    .filter(({ answers }) => isKept(answers[model]))
    .flatMap((turn) => [...turn.said[model], turnOf(turn.answers[model])]);
  const messages = [...before, ...said];
  if (options.system.trim()) messages.unshift({ role: "system", content: options.system });
  const tools = toolsOf(options.tools);
  const isChat = Boolean(tools || options.logprobs || messages.some(({ role, tool_calls: calls }) => role === "tool" || calls));
  return { isChat, body: isChat ? chatBody(model, options, messages, tools) : jobBody(model, options, messages) };
}

function isKept(answer) {
  return answer && (answer.text || answer.calls.length) && !answer.end?.error;
}

function turnOf({ text, calls }) {
  if (!calls.length) return { role: "assistant", content: text };
  const made = calls.map(({ id, name, arguments: given }) => ({ id, type: "function", function: { name, arguments: given } }));
  return { role: "assistant", content: text || null, tool_calls: made };
}

function toolsOf(text) {
  if (!text.trim()) return null;
  let tools;
  try {
    tools = JSON.parse(text);
  } catch (error) {
    throw new Error(`Tools: this is no JSON (${error.message}); write a list, as in the example of the field`);
  }
  return Array.isArray(tools) ? tools : [tools];
}

function jobBody(model, { temperature, maxTokens }, messages) {
  const body = { modelId: model, messages };
  if (temperature !== "") body.temperature = Number(temperature);
  if (maxTokens !== "") body.maxTokens = Number(maxTokens);
  return body;
}

function chatBody(model, { temperature, maxTokens, logprobs }, messages, tools) {
  const body = { model, messages, stream: true, stream_options: { include_usage: true } };
  if (temperature !== "") body.temperature = Number(temperature);
  if (maxTokens !== "") body.max_tokens = Number(maxTokens);
  if (tools) body.tools = tools;
  if (logprobs) Object.assign(body, { logprobs: true, top_logprobs: 5 });
  return body;
}

/** Return the content of a question with images, each a `data:` URL. */
export function contentOf(text, images) {
  if (!images.length) return text;
  return [{ type: "text", text }, ...images.map(({ url }) => ({ type: "image_url", image_url: { url } }))];
}

/** Return a file as `{ name, url }`; large pictures are made smaller, as a request may not be large. */
export async function imageOf(file) {
  const blob = file.size > SMALL_BYTES ? await smaller(file) : file;
  const url = await new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(new Error(`${file.name} cannot be read`));
    reader.readAsDataURL(blob);
  });
  return { name: file.name, url };
}

async function smaller(file) {
  const bitmap = await createImageBitmap(file);
  const scale = Math.min(1, LONGEST_SIDE / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.round(bitmap.width * scale);
  canvas.height = Math.round(bitmap.height * scale);
  canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.85));
}
