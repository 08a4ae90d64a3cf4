// The dashboard: logs in where the server asks for it, shows one page at a time and keeps it up to date.
import { Actions } from "./actions.js";
import { Board } from "./board.js";
import { InspectorPage, MemoryPage } from "./explorers.js";
import { Live } from "./live.js";
import { ActivityPage, AgentsPage, AnalyticsPage, DriftPage, EpicsPage, SettingsPage, WorkflowsPage } from "./pages.js";
import { access, call } from "./rest.js";
import { leaveForProvider, returnFromProvider } from "./sign-in.js";
import { StoryPanel } from "./story.js";
import { button, el, labelled, shown } from "./text.js";
import { startTicking } from "./time.js";

const NAMES = {
  board: "Board",
  agents: "Agents",
  activity: "Activity",
  epics: "Epics",
  workflows: "Workflows",
  analytics: "Analytics",
  memory: "Memory",
  drift: "Drift",
  inspector: "Inspector",
  settings: "Settings",
};
const THEMES = ["auto", "light", "dark"];
const ANSWER_MS = 6000;
// Changes that come together are read together; a lease that passes changes no row, so it is looked for.
const TOGETHER_MS = 100;
const LEASES_MS = 30_000;

const main = document.getElementById("main");
const said = document.getElementById("said");
const state = document.getElementById("state");

let pages = {};
let panel = null;
let shownName = null;
let live = null;
let reading = null;
let isStale = false;

let silence = 0;
function say(text, isBad = false) {
  said.replaceChildren(shown(text));
  said.classList.toggle("bad", isBad);
  clearTimeout(silence);
  if (!isBad) silence = setTimeout(() => (said.replaceChildren()), ANSWER_MS);
}

// A story that is open has an address of its own, on the page of the board.
const STORY = /^story\/(.+)$/;

/** The address says which story is open; without a change of the page, so that the focus stays. */
function addressed(key) {
  const wanted = key === null ? "#board" : `#story/${key}`;
  if (location.hash === wanted || (key === null && !STORY.test(location.hash.slice(1)))) return;
  history[key === null ? "replaceState" : "pushState"](null, "", wanted);
}

class BoardPage {
  constructor(root) {
    const act = new Actions(call, () => refresh());
    panel = new StoryPanel({ call, act, say, address: addressed });
    this._view = new Board(root, { act, open: (key) => panel.open(key), say, find: soon });
  }

  async refresh() {
    this._view.show(await call("project_board", { query: this._view.wanted }));
  }
}

const MAKERS = {
  board: BoardPage,
  agents: AgentsPage,
  activity: ActivityPage,
  epics: EpicsPage,
  workflows: WorkflowsPage,
  analytics: AnalyticsPage,
  memory: MemoryPage,
  drift: DriftPage,
  inspector: InspectorPage,
  settings: SettingsPage,
};

let waiting = 0;
function soon() {
  waiting ||= setTimeout(() => {
    waiting = 0;
    refresh();
  }, TOGETHER_MS);
}

/** Read the page that is shown again; a change that comes meanwhile is read right after. */
function refresh() {
  isStale = true;
  reading ??= readUntilFresh().finally(() => (reading = null));
  return reading;
}

async function readUntilFresh() {
  while (isStale && pages[shownName]) {
    isStale = false;
    try {
      await pages[shownName].page.refresh();
      await panel?.refresh();
    } catch (error) {
      if (error.status === 401) logIn(error.message);
      else say(error.message, true);
    }
  }
}

async function go() {
  const asked = decodeURIComponent(location.hash.slice(1));
  const story = STORY.exec(asked)?.[1];
  const name = asked in NAMES ? asked : "board";
  if (!story) panel?.close();
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (!pages[name]) {
    const area = el("div");
    const root = el("section", { "aria-labelledby": `title-${name}` }, el("h2", { id: `title-${name}` }, NAMES[name]), area);
    pages[name] = { root, page: new MAKERS[name](area) };
  }
  shownName = name;
  main.replaceChildren(pages[name].root);
  document.title = `${NAMES[name]} · bmad-mcp`;
  say("");
  main.setAttribute("aria-busy", "true");
  await refresh();
  main.setAttribute("aria-busy", "false");
  if (story) await panel?.open(story);
}

function logIn(why) {
  live?.stop();
  window.removeEventListener("hashchange", go);
  access.forget();
  pages = {};
  panel = null;
  document.querySelector("dialog")?.remove();
  document.body.classList.add("outside");
  const token = el("input", { type: "password", required: true, autocomplete: "off", spellcheck: "false" });
  const project = el("input", { type: "text", autocomplete: "off", placeholder: "the server's own" });
  main.replaceChildren(
    el(
      "form",
      {
        class: "login",
        on: {
          submit: (event) => {
            event.preventDefault();
            access.keep(token.value.trim(), project.value.trim());
            begin();
          },
        },
      },
      el("h2", {}, "Log in"),
      el("p", {}, "Paste an access token. An admin makes one with ", el("code", {}, "bmad-mcp token create NAME --scope write"), "."),
      labelled("Token", token),
      labelled("Project", project),
      el("button", { type: "submit" }, "Log in"),
      login === "provider"
        ? button("Sign in at the identity provider", () => leaveForProvider(project.value.trim()).catch((error) => logIn(error.message)))
        : null,
      el("p", { class: "note" }, "It stays in this tab and is gone when you close it."),
      why ? el("p", { class: "bad", role: "alert" }, shown(why)) : null,
    ),
  );
  token.focus();
}

async function begin() {
  try {
    const { project } = await call("project_status");
    document.getElementById("project").replaceChildren(shown(project.name));
  } catch (error) {
    if (error.status === 401 || error.status === 403) {
      logIn(error.message);
      return;
    }
    say(error.message, true);
    setTimeout(begin, 2000);
    return;
  }
  document.body.classList.remove("outside");
  window.addEventListener("hashchange", go);
  await go();
  live = new Live({
    changed: () => soon(),
    state: (word) => {
      state.textContent = { live: "Live", looking: "Looking every 2 s", away: "Connection lost" }[word];
      state.className = `badge ${word}`;
    },
  });
  document.documentElement.dataset.ready = "yes";
  live.run();
}

function dress() {
  const stored = localStorage.getItem("bmad.theme");
  const theme = THEMES.includes(stored) ? stored : "auto";
  document.documentElement.dataset.theme = theme;
  return theme;
}

function frame() {
  const nav = document.querySelector("nav ul");
  nav.append(...Object.entries(NAMES).map(([name, title]) => el("li", {}, el("a", { href: `#${name}` }, title))));
  const theme = button(`Theme: ${dress()}`, () => {
    localStorage.setItem("bmad.theme", THEMES[(THEMES.indexOf(dress()) + 1) % THEMES.length]);
    theme.textContent = `Theme: ${dress()}`;
  });
  theme.className = "quiet";
  const tools = document.getElementById("tools");
  tools.append(theme);
  // Where a token is asked for, these pages want it in a header, which a link cannot send.
  if (asksForToken) tools.append(button("Log out", () => logIn(""), { class: "quiet", id: "leave" }));
  else tools.append(el("a", { href: "connect" }, "Connect"), el("a", { href: "docs" }, "REST"));
}

const { login } = document.documentElement.dataset;
const asksForToken = login !== "none";
frame();
startTicking();
setInterval(soon, LEASES_MS);
document.addEventListener("visibilitychange", () => document.hidden || soon());
const why = login === "provider" ? await returnFromProvider() : "";
if (asksForToken && !access.read().token) logIn(why);
else begin();
