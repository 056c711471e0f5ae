/** What operators have changed, by whichever page or program. */
import { parameter, setParameters } from "../address.js";
import { Changes } from "../changes.js";
import { html } from "../html.js";
import { ADMIN } from "../live.js";
import { Notice, useAsked } from "../parts.js";

const EVERY_MS = 5000;

export default function Audit() {
  const text = parameter("text");
  const [found, problem] = useAsked(`${ADMIN}/audit?${new URLSearchParams({ text })}`, EVERY_MS);
  return html`
    <h1>Audit</h1>
    ${problem && html`<${Notice}>${problem}<//>`}
    <p class="controls">
      <label>Show only those with <input type="search" maxlength="200" value=${text} onInput=${(event) => setParameters({ text: event.target.value })} placeholder="key, model, job or address" /></label>
    </p>
    ${found && html`<${Changes} entries=${found.entries} />`}
    <p class="faint">Each is noted before it is made. Changes by the command line of the host are not here.</p>
  `;
}
