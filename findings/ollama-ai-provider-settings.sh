#!/usr/bin/env bash
# ollama-ai-provider-v2 4.0.1 with the AI SDK 7.0.173: settings of a call, such as `maxOutputTokens`, have no effect. Guess: they
# become Ollama's `options`, as in ai-sdk-ollama 4.3.0. It misses: temperature, topP and maxOutputTokens are fields beside
# `messages`, where Ollama's API has none of these and ignores what it does not know; topK, seed, stopSequences and the penalties are
# not sent at all. The result has a warning for some of those, and none for the three that look as if they were sent. What is in
# `providerOptions.ollama.options` arrives.
#
# Output seen (Node 20.20):
#     ollama-ai-provider-v2: beside max_output_tokens,temperature,top_p; options none; warned of frequencyPenalty,presencePenalty,seed,stopSequences,topK
#     ai-sdk-ollama: beside none; options frequency_penalty,num_predict,presence_penalty,seed,stop,temperature,top_k,top_p; warned of none
# Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
echo '{"private": true, "type": "module"}' > package.json
npm install --no-audit --no-fund --ignore-scripts \
    ai@7.0.173 ollama-ai-provider-v2@4.0.1 ai-sdk-ollama@4.3.0 zod@4 > log 2>&1 || { cat log; exit 1; }
cat > ask.mjs <<'NODE'
// Asks a server of its own, which keeps what it was sent, with each of two providers.
import http from "node:http";
import { generateText } from "ai";
import { createOllama as sdk } from "ai-sdk-ollama";
import { createOllama as provider } from "ollama-ai-provider-v2";

globalThis.AI_SDK_LOG_WARNINGS = false;
const counts = ["total_duration", "load_duration", "prompt_eval_count", "prompt_eval_duration", "eval_count", "eval_duration"];
const answer = {
  model: "m", created_at: "2026-11-29T00:00:00Z", done: true, done_reason: "stop",
  message: { role: "assistant", content: "Yes." }, ...Object.fromEntries(counts.map((name) => [name, 1])),
};
let sent;
const server = http.createServer(async (request, response) => {
  let body = "";
  for await (const part of request) body += part;
  sent = JSON.parse(body);
  response.setHeader("content-type", "application/json");
  response.end(`${JSON.stringify(answer)}\n`);
});
await new Promise((listening) => server.listen(0, listening));
const url = `http://127.0.0.1:${server.address().port}`;
const settings = {
  maxOutputTokens: 4, temperature: 0.5, topP: 0.9, topK: 3, seed: 7,
  stopSequences: ["x"], presencePenalty: 0.5, frequencyPenalty: 0.4, maxRetries: 0,
};
const own = ["model", "messages", "stream", "think"];
const names = (found) => found.sort().join(",") || "none";
const models = { "ollama-ai-provider-v2": provider({ baseURL: `${url}/api` })("m"), "ai-sdk-ollama": sdk({ baseURL: url })("m") };
for (const [name, model] of Object.entries(models)) {
  const { warnings } = await generateText({ model, prompt: "Is it?", ...settings });
  const beside = names(Object.keys(sent).filter((key) => ![...own, "options"].includes(key)));
  const warned = names((warnings ?? []).map((each) => each.details ?? each.feature));
  console.log(`${name}: beside ${beside}; options ${names(Object.keys(sent.options ?? {}))}; warned of ${warned}`);
}
server.close();
process.exit(0);
NODE
node ask.mjs 2> log | tee seen || { cat log; exit 1; }
diff seen - <<'EXPECTED'
ollama-ai-provider-v2: beside max_output_tokens,temperature,top_p; options none; warned of frequencyPenalty,presencePenalty,seed,stopSequences,topK
ai-sdk-ollama: beside none; options frequency_penalty,num_predict,presence_penalty,seed,stop,temperature,top_k,top_p; warned of none
EXPECTED
