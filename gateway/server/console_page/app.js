/** The console: who is signed in sees the page that the address names. */
import { pageName } from "./address.js";
import { html, render, useEffect, useState } from "./html.js";
import { begin, session, signIn, signOut, status, trouble } from "./live.js";
import { Notice } from "./parts.js";

/** Pages by their address; those without `open` are for operators. */
const PAGES = [
  { name: "now", title: "Now", load: () => import("./pages/now.js") },
  { name: "requests", title: "Requests", load: () => import("./pages/requests.js") },
  { name: "models", title: "Models", load: () => import("./pages/models.js") },
  { name: "playground", title: "Playground", load: () => import("./pages/playground.js"), open: true },
  { name: "batches", title: "Batches", load: () => import("./pages/batches.js") },
  { name: "bench", title: "Bench", load: () => import("./pages/bench.js") },
  { name: "usage", title: "Usage", load: () => import("./pages/usage.js"), open: true },
  { name: "keys", title: "Keys", load: () => import("./pages/keys.js") },
  { name: "audit", title: "Audit", load: () => import("./pages/audit.js") },
  { name: "logs", title: "Logs", load: () => import("./pages/logs.js") },
];

function App() {
  if (session.value === undefined) return html`<main class="quiet" aria-busy="true"></main>`;
  if (session.value === null) return html`<${SignIn} />`;
  const pages = PAGES.filter((page) => page.open || session.value.admin);
  const page = pages.find(({ name }) => name === pageName.value) ?? pages[0];
  return html`
    <a class="skip" href="#content" onClick=${skip}>Skip to the content</a>
    <header>
      <strong class="brand">ew</strong>
      <nav aria-label="Pages">
        ${pages.map(
          ({ name, title }) =>
            html`<a key=${name} href=${`#/${name}`} aria-current=${name === page.name ? "page" : undefined}>${title}</a>`,
        )}
      </nav>
      <a class="aside" href="/docs">API</a>
      <button type="button" class="plain" onClick=${signOut} title=${`Signed in with the key ${session.value.key_id}`}>
        Sign out
      </button>
    </header>
    ${session.value.admin && html`<${Connection} />`}
    <main id="content" tabindex="-1"><${Loaded} key=${page.name} page=${page} /></main>
  `;
}

function skip(event) {
  event.preventDefault();
  document.getElementById("content").focus();
}

/** Says while the gateway is away, and is there all the time: nothing moves when it does. */
function Connection() {
  const text = trouble.value && `Not up to date: ${trouble.value}. Connecting again by itself.`;
  return html`<div class="connection" role="status">${text && html`<${Notice}>${text}<//>`}</div>`;
}

function Loaded({ page }) {
  const [Page, setPage] = useState(null);
  const [problem, setProblem] = useState("");
  useEffect(() => {
    document.title = `${page.title} – ew`;
    // On a phone the menu is a row that scrolls.
    document.querySelector("nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
    page.load().then(
      (module) => setPage(() => module.default),
      () => setProblem("this page could not be loaded; reload to try again"),
    );
  }, []);
  if (problem) return html`<${Notice}>${problem}<//>`;
  const isThere = Page && (page.open || status.value);
  return isThere ? html`<${Page} />` : html`<h1>${page.title}</h1>`;
}

function SignIn() {
  const [problem, setProblem] = useState(trouble.value);
  const submit = async (event) => {
    event.preventDefault();
    try {
      await signIn(new FormData(event.target).get("key"));
    } catch (failure) {
      setProblem(failure.message);
    }
  };
  return html`<main class="sign-in">
    <h1>ew</h1>
    <form onSubmit=${submit}>
      <label for="key">API key</label>
      <input id="key" name="key" type="password" required autocomplete="current-password" autofocus />
      <button type="submit" class="main">Sign in</button>
    </form>
    ${problem && html`<${Notice}>${problem}<//>`}
    <p class="faint">
      An operator's key shows all pages: <code>ew keys add NAME --admin</code> makes one. Any other key
      opens the playground. It is kept as a cookie that scripts cannot read.
    </p>
  </main>`;
}

render(html`<${App} />`, document.getElementById("app"));
begin();
