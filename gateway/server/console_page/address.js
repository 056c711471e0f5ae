/** The address of the page, `#/PAGE?NAME=VALUE`: whoever is sent it sees the same. */
import { computed, signal } from "./html.js";

const hash = signal(location.hash);
addEventListener("hashchange", () => {
  hash.value = location.hash;
});

/** The page that the address names; empty if it names none. */
export const pageName = computed(() => hash.value.split(/[/?]/)[1] ?? "");
const query = computed(() => new URLSearchParams(hash.value.split("?")[1]));

/** Return what the address says of a name, or else `otherwise`. Who asks while it is drawn is drawn
 * again when that changes. */
export function parameter(name, otherwise = "") {
  return query.value.get(name) || otherwise;
}

/** Have the address of this page say so; empty values are left out. No entry of the browser's
 * history is made: each letter of a search would be one. */
export function setParameters(changes) {
  history.replaceState(null, "", addressOf(pageName.value, { ...Object.fromEntries(query.value), ...changes }));
  hash.value = location.hash;
}

/** Return the address of a page. */
export function addressOf(page, parameters = {}) {
  const given = Object.entries(parameters).filter(([, value]) => value !== "");
  return given.length ? `#/${page}?${new URLSearchParams(given)}` : `#/${page}`;
}
