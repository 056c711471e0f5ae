// The official client for JavaScript.
import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";
import { KEY, MODEL, QUESTION, SENTENCE, TEXTS, TOOL_QUESTION, URL, VECTORS, getWeather, report } from "./abilities.mjs";

const client = new OpenAI({ baseURL: URL, apiKey: KEY });
const user = (content) => ({ role: "user", content });
const tool = {
  name: "get_weather",
  parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
};

async function chat() {
  const answer = await client.chat.completions.create({ model: MODEL, messages: [user(QUESTION)] });
  return answer.choices[0].message.content;
}

async function stream() {
  const chunks = await client.chat.completions.create({ model: MODEL, messages: [user(QUESTION)], stream: true });
  let text = "";
  for await (const chunk of chunks) text += chunk.choices[0]?.delta?.content ?? "";
  return text;
}

async function tools() {
  const runner = client.chat.completions.runTools({
    model: MODEL,
    messages: [user(TOOL_QUESTION)],
    tools: [{ type: "function", function: { ...tool, function: getWeather, parse: JSON.parse } }],
  });
  return runner.finalContent();
}

async function streamed_tools() {
  const stream = client.chat.completions.stream({
    model: MODEL,
    messages: [user(TOOL_QUESTION)],
    tools: [{ type: "function", function: tool }],
  });
  const { message, finish_reason } = (await stream.finalChatCompletion()).choices[0];
  return [...message.tool_calls.map((call) => [call.function.name, JSON.parse(call.function.arguments)]), finish_reason];
}

async function structured() {
  const Person = z.object({ name: z.string(), age: z.number().int() });
  const answer = await client.chat.completions.parse({
    model: MODEL,
    messages: [user(SENTENCE)],
    response_format: zodResponseFormat(Person, "person"),
  });
  return answer.choices[0].message.parsed;
}

async function embeddings() {
  const answer = await client.embeddings.create({ model: VECTORS, input: TEXTS });
  return answer.data.map((each) => each.embedding.length);
}

await report({ chat, stream, tools, streamed_tools, structured, embeddings });
