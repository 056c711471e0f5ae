/** Preact with htm, as one import for all modules of the console. */
import { h, render } from "./vendor/preact.js";
import { useEffect, useMemo, useRef, useState } from "./vendor/preact-hooks.js";
import htm from "./vendor/htm.js";
import { computed, effect, signal, useSignal } from "./vendor/signals.js";

export const html = htm.bind(h);
export { computed, effect, render, signal, useEffect, useMemo, useRef, useSignal, useState };
