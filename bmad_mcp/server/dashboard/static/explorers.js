// The pages that look things up: memories with their provenance, and resources by their address.
import { call, fetchJson } from "./rest.js";
import { button, el, labelled, plain, replace, shown, words } from "./text.js";
import { since } from "./time.js";
import { MEMORY_CATEGORIES } from "./vocabulary.js";

// Who writes memories, and how far one is on its way to a memory service.
const KINDS = { agent: "an agent", human: "a person", system: "a job", import: "an import" };
const DELIVERIES = {
  stored: () => "this database",
  queued: ({ attempts }) => `this database; waits to be delivered${attempts ? `, tried ${attempts} times` : ""}`,
  delivered: ({ provider }) => `this database and ${provider}`,
  dead: ({ provider, attempts }) => `this database; given up after ${attempts} tries${provider ? ` at ${provider}` : ""}`,
};
const field = (attributes) => el("input", { type: "search", autocomplete: "off", ...attributes });

export class MemoryPage {
  constructor(root) {
    this._words = field({ required: true, maxlength: 300 });
    const choices = [el("option", { value: "" }, "any"), ...MEMORY_CATEGORIES.map((name) => el("option", { value: name }, words(name)))];
    this._category = el("select", {}, choices);
    this._found = el("div", { "aria-live": "polite" });
    root.append(
      el(
        "form",
        { class: "filter", role: "search", on: { submit: (event) => this._search(event) } },
        labelled("What the memory is asked", this._words),
        labelled("Category", this._category),
        el("button", { type: "submit" }, "Search"),
      ),
      el("p", { class: "note" }, "Memories were written by people and agents. They are shown as they are, with where they come from."),
      this._found,
    );
  }

  // A look-up is counted, so nothing is asked before somebody does.
  async refresh() {}

  async _search(event) {
    event.preventDefault();
    await this._show(call("memory_search", { query: this._words.value, category: this._category.value }), "Found");
  }

  async _show(asked, title) {
    let answer, comes;
    try {
      answer = await asked;
      comes = await this._provenance(answer.items);
    } catch (error) {
      replace(this._found, el("p", { class: "bad" }, shown(error.message)));
      return;
    }
    const note = [`from ${answer.source}`, answer.freshness, answer.note].filter(Boolean).join(" · ");
    replace(
      this._found,
      el("h3", {}, `${title}: ${answer.items.length}`),
      el("p", { class: "note" }, shown(note)),
      el("ul", { class: "memories" }, answer.items.map((one) => this._memory(one, comes, answer.source))),
    );
  }

  /** Where these memories come from, by id; those that only a service has are not in it. */
  async _provenance(items) {
    const memories = items.map((one) => one.id).filter(Boolean);
    if (!memories.length) return { items: new Map() };
    const { project, items: found } = await call("memory_provenance", { memories });
    return { project, items: new Map(found.map((one) => [one.id, one])) };
  }

  _memory(one, { project, items }, source) {
    const from = items.get(one.id);
    const told = [
      ["Found because", one.why],
      ["Hidden characters", one.flags?.map(words).join(", ")],
      ["Category", words(one.category)],
      ["Stored by", from ? `${from.principal} (${KINDS[from.author] ?? from.author})` : KINDS[one.author] ?? one.author],
      ["As agent", one.agent],
      ["Project", project],
      ["Kept in", from ? DELIVERIES[from.delivery](from) : `${one.source ?? source} only`],
      ["Why not delivered", from?.failure],
      ["Score", one.score],
      ["Confidence", one.confidence],
      ["Id", one.id],
    ].filter(([, value]) => value !== undefined && value !== null && value !== "");
    return el(
      "li",
      { class: "card" },
      el("p", { class: "prose" }, shown(one.text)),
      el("dl", { class: "pairs" }, told.map(([name, value]) => [el("dt", {}, name), el("dd", {}, shown(value))]), el("dt", {}, "Written"), el("dd", {}, since(one.created_at))),
      one.id ? button("Related", () => this._show(call("memory_related", { memory: one.id }), "Related"), { "aria-label": `Related to ${plain(one.id)}` }) : null,
    );
  }
}

export class InspectorPage {
  constructor(root) {
    this._known = el("datalist", { id: "addresses" });
    this._address = field({ class: "long", list: "addresses", required: true, value: "bmad://project" });
    this._found = el("div", { "aria-live": "polite" });
    root.append(
      el(
        "form",
        { class: "filter", on: { submit: (event) => this._look(event) } },
        labelled("Address", this._address),
        this._known,
        el("button", { type: "submit" }, "Show"),
      ),
      this._found,
    );
  }

  async refresh() {
    if (!this._known.children.length) {
      const { addresses } = await fetchJson("dashboard/resource.json");
      this._known.replaceChildren(...addresses.map((value) => el("option", { value })));
    }
  }

  async _look(event) {
    event.preventDefault();
    try {
      const query = new URLSearchParams({ address: this._address.value.trim() });
      const found = await fetchJson(`dashboard/resource.json?${query}`);
      const block = (name, text) => [
        el("h3", {}, name),
        el("pre", { tabindex: "0", role: "region", "aria-label": name }, shown(text)),
      ];
      replace(
        this._found,
        found.mime_type === "text/markdown" ? block("As text (text/markdown)", found.text) : null,
        block("As JSON", JSON.stringify(found.json, null, 2)),
      );
    } catch (error) {
      replace(this._found, el("p", { class: "bad" }, shown(error.message)));
    }
  }
}
