/** How clients are pointed at this gateway, with the address that the reader came by. */

const KEY = "YOUR_KEY";

/** Return `[name, text]` for each client. */
export function snippetsFor(model, base = location.origin) {
  const question = "What is ew?";
  return [
    ["curl", `curl ${base}/v1/chat/completions \\
  -H "Authorization: Bearer ${KEY}" -H "Content-Type: application/json" \\
  -d '${JSON.stringify({ model, messages: [{ role: "user", content: question }] })}'`],
    ["Python", `from openai import OpenAI

client = OpenAI(base_url="${base}/v1", api_key="${KEY}")
for chunk in client.chat.completions.create(
    model="${model}", messages=[{"role": "user", "content": "${question}"}], stream=True
):
    print(chunk.choices[0].delta.content or "", end="")`],
    ["JavaScript", `import OpenAI from "openai";

const client = new OpenAI({ baseURL: "${base}/v1", apiKey: "${KEY}" });
const stream = await client.chat.completions.create({
  model: "${model}", messages: [{ role: "user", content: "${question}" }], stream: true,
});
for await (const chunk of stream) process.stdout.write(chunk.choices[0]?.delta?.content ?? "");`],
    ["LangChain", `from langchain_openai import ChatOpenAI

model = ChatOpenAI(base_url="${base}/v1", api_key="${KEY}", model="${model}")
print(model.invoke("${question}").content)`],
    ["Claude Code", `ANTHROPIC_BASE_URL=${base} ANTHROPIC_AUTH_TOKEN=${KEY} ANTHROPIC_MODEL=${model} claude`],
    ["Codex", `codex -m ${model} -c model_provider=ew \\
  -c 'model_providers.ew={name="ew", base_url="${base}/v1", wire_api="responses", env_key="EW_API_KEY"}'
# with the key in the environment: export EW_API_KEY=${KEY}`],
    ["Open WebUI", `docker run --network host -e PORT=3000 \\
  -e OPENAI_API_BASE_URL=${base}/v1 -e OPENAI_API_KEY=${KEY} \\
  ghcr.io/open-webui/open-webui:main`],
  ];
}
