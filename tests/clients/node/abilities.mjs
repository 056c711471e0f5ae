// What each client is asked to do, and how it tells what came of it; as abilities.py for Python.
export const URL = `${process.env.EW_URL}/v1`;
export const KEY = process.env.EW_KEY;
export const MODEL = "demo";
export const VECTORS = "vectors";
export const QUESTION = "What is ew?";
export const TOOL_QUESTION = "What is the weather in Paris?";
export const SENTENCE = "Anna is 25 years old.";
export const TEXTS = ["one", "two three"];

export function getWeather({ city }) {
  return `sunny, ${city.length} degrees`;
}

export async function report(abilities) {
  const results = {};
  for (const [name, ability] of Object.entries(abilities)) {
    try {
      results[name] = await ability();
    } catch (error) {
      results[name] = { error: String(error.stack) };
    }
  }
  console.log("\n" + JSON.stringify(results));
}
