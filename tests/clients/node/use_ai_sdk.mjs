// The AI SDK, with its provider for servers of this kind.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { Output, embedMany, generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";
import { KEY, MODEL, QUESTION, SENTENCE, TEXTS, TOOL_QUESTION, URL, VECTORS, getWeather, report } from "./abilities.mjs";

const provider = createOpenAICompatible({
  name: "ew",
  baseURL: URL,
  apiKey: KEY,
  includeUsage: true,
  supportsStructuredOutputs: true,
});
const model = provider(MODEL);
const weather = { get_weather: tool({ inputSchema: z.object({ city: z.string() }), execute: getWeather }) };

async function chat() {
  return (await generateText({ model, prompt: QUESTION })).text;
}

async function stream() {
  let text = "";
  for await (const part of streamText({ model, prompt: QUESTION }).textStream) text += part;
  return text;
}

async function tools() {
  const asked = { model, prompt: TOOL_QUESTION, tools: weather, stopWhen: stepCountIs(3) };
  return (await generateText(asked)).text;
}

async function streamed_tools() {
  const answer = streamText({ model, prompt: TOOL_QUESTION, tools: weather });
  const calls = (await answer.toolCalls).map((call) => [call.toolName, call.input]);
  return [...calls, (await answer.finishReason).replace("-", "_")];
}

async function structured() {
  const schema = z.object({ name: z.string(), age: z.number().int() });
  return (await generateText({ model, prompt: SENTENCE, output: Output.object({ schema }) })).output;
}

async function embeddings() {
  const answer = await embedMany({ model: provider.embeddingModel(VECTORS), values: TEXTS });
  return answer.embeddings.map((each) => each.length);
}

await report({ chat, stream, tools, streamed_tools, structured, embeddings });
