// The sprint board: stories by status, who holds their tasks, and moves by hand, by keyboard or by a menu.
import { STORY_MOVES } from "./vocabulary.js";
import { button, el, labelled, plain, replace, shown, words } from "./text.js";
import { countdown } from "./time.js";

const CARRIED = "text/x-bmad-story";
const CLOSED = ["done", "completed", "cancelled"];

export class Board {
  /**
   * `act` makes moves, `open(key)` opens a story, `say(text, isBad)` tells people what came of it, `find()` reads the
   * board again with what is looked for, where that can be: a column shows its first stories only.
   */
  constructor(root, { act, open, say, find }) {
    this._act = act;
    this._open = open;
    this._say = say;
    this._board = null;
    this._told = "";
    this._words = el("input", {
      type: "search",
      placeholder: "Key or words",
      autocomplete: "off",
      maxlength: 300,
      on: {
        input: () => {
          this._draw();
          find?.();
        },
      },
    });
    this._who = el("select", { on: { change: () => this._draw() } });
    this._closed = el("input", { type: "checkbox", checked: true, on: { change: () => this._draw() } });
    this._columns = el("div", { class: "columns", data: { scroll: "columns" } });
    this._loose = el("section", { class: "loose", "aria-label": "Tasks without a story", hidden: true });
    this._count = el("p", { class: "note", role: "status" });
    root.append(
      el(
        "form",
        { class: "filter", role: "search", "aria-label": "Filter the board", on: { submit: (e) => e.preventDefault() } },
        labelled("Find", this._words),
        labelled("Held by", this._who),
        el("label", { class: "check" }, this._closed, " Closed"),
        this._count,
      ),
      this._columns,
      this._loose,
    );
  }

  /** What is looked for. */
  get wanted() {
    return this._words.value.trim().toLowerCase();
  }

  /**
   * Show a board: {columns: [{status, count, stories: [{key, title, points, tasks, claims}]}], tasks: {open_count,
   * closed_count, items: [{key, title, status, agent, held_by, lease_until}]}}; those tasks belong to no story.
   */
  show(board) {
    const told = JSON.stringify(board);
    // The same again would only take the focus and the place away from who reads.
    if (told === this._told || this._columns.querySelector(".dragged")) return;
    this._told = told;
    this._board = board;
    const chosen = this._who.value;
    const agents = new Set(board.columns.flatMap((c) => c.stories.flatMap((s) => (s.claims ?? []).map((one) => one.agent))));
    for (const task of board.tasks?.items ?? []) if (task.held_by) agents.add(task.held_by);
    const options = [["", "Anyone or nobody"], ["*", "Anyone"], ...[...agents].sort().map((name) => [name, plain(name)])];
    this._who.replaceChildren(...options.map(([value, text]) => el("option", { value }, text)));
    if (options.some(([value]) => value === chosen)) this._who.value = chosen;
    this._draw();
  }

  _draw() {
    if (!this._board) return;
    const { wanted } = this;
    let seen = 0;
    const columns = this._board.columns
      .filter((column) => this._closed.checked || !CLOSED.includes(column.status))
      .map((column) => {
        const stories = column.stories.filter((story) => this._fits(story, wanted));
        seen += this._who.value ? stories.length : stories.length + column.count - column.stories.length;
        return this._column(column, stories);
      });
    replace(this._columns, columns);
    const found = this._drawLoose(wanted);
    const tasks = this._board.tasks ? `, ${found} ${found === 1 ? "task" : "tasks"} without a story` : "";
    const told = wanted || this._who.value ? `${seen} ${seen === 1 ? "story fits" : "stories fit"}${tasks}` : "";
    if (this._count.textContent !== told) this._count.textContent = told;
  }

  /** The tasks that belong to no story, below the columns; how many fit. */
  _drawLoose(wanted) {
    const { items = [], open_count = 0, closed_count = 0 } = this._board.tasks ?? {};
    const withClosed = this._closed.checked;
    const who = this._who.value;
    const kept = items.filter((task) => withClosed || !CLOSED.includes(task.status));
    const tasks = kept.filter(
      (task) =>
        (!wanted || `${task.key} ${task.title}`.toLowerCase().includes(wanted)) &&
        (!who || (task.held_by && (who === "*" || task.held_by === who))),
    );
    const count = open_count + (withClosed ? closed_count : 0);
    this._loose.hidden = count === 0;
    const hidden = count - kept.length;
    replace(
      this._loose,
      el("h3", {}, "Tasks without a story ", el("small", {}, String(count))),
      tasks.length ? el("ul", { data: { scroll: "loose" } }, tasks.map((task) => this._task(task))) : el("p", { class: "note" }, "None"),
      hidden > 0 ? el("p", { class: "note" }, `${hidden} more are not shown.`) : null,
    );
    return tasks.length;
  }

  _task(task) {
    return el(
      "li",
      { class: "card", data: { key: task.key } },
      el("p", { class: "title" }, el("span", { class: "key" }, plain(task.key)), " ", shown(task.title)),
      el(
        "p",
        { class: "facts" },
        el("span", { class: `dot s-${task.status}` }),
        words(task.status),
        task.agent ? [" · for ", shown(task.agent)] : null,
      ),
      task.held_by
        ? el("ul", { class: "claims" }, el("li", {}, el("span", { class: "who" }, shown(task.held_by)), " ", task.lease_until ? countdown(task.lease_until) : ""))
        : null,
    );
  }

  _fits(story, wanted) {
    if (wanted && !`${story.key} ${story.title}`.toLowerCase().includes(wanted)) return false;
    const who = this._who.value;
    return !who || (story.claims ?? []).some((claim) => who === "*" || claim.agent === who);
  }

  _column(column, stories) {
    const made = el(
      "section",
      { class: "column", "aria-label": words(column.status), data: { status: column.status } },
      el("h3", {}, el("span", { class: `dot s-${column.status}` }), el("span", { class: "name" }, words(column.status)), " ", el("small", {}, String(column.count))),
      stories.length
        ? el("ul", { data: { scroll: column.status } }, stories.map((story) => this._card(story, column.status)))
        : el("p", { class: "note" }, "None"),
    );
    const hidden = column.count - column.stories.length;
    if (hidden > 0) made.append(el("p", { class: "note" }, `${hidden} more are not shown.`));
    made.addEventListener("dragover", (event) => {
      if (!this._dragged || !STORY_MOVES[this._dragged.status].includes(column.status)) return;
      event.preventDefault();
      made.classList.add("target");
    });
    made.addEventListener("dragleave", () => made.classList.remove("target"));
    made.addEventListener("drop", (event) => {
      event.preventDefault();
      made.classList.remove("target");
      const dragged = this._dragged;
      this._end();
      if (dragged) this._move(dragged.key, dragged.status, column.status);
    });
    return made;
  }

  _card(story, status) {
    const facts = [story.points ? `${story.points} points` : "", story.tasks ? `${story.tasks} tasks` : ""].filter(Boolean);
    const targets = this._act ? STORY_MOVES[status] : [];
    const card = el(
      "li",
      { class: "card", data: { key: story.key }, draggable: targets.length > 0 ? "true" : undefined },
      el(
        "button",
        { type: "button", class: "title", data: { focus: `open ${story.key}` }, on: { click: () => this._open(story.key) } },
        el("span", { class: "key" }, plain(story.key)),
        " ",
        shown(story.title),
      ),
      facts.length ? el("p", { class: "facts" }, facts.join(" · ")) : null,
      story.claims
        ? el(
            "ul",
            { class: "claims", "aria-label": "Held tasks" },
            story.claims.map((claim) =>
              el("li", {}, el("span", { class: "who" }, shown(claim.agent)), ` ${plain(claim.task)} `, countdown(claim.until)),
            ),
          )
        : null,
      targets.length
        ? el(
            "details",
            { class: "move", data: { focus: `move ${story.key}` } },
            el("summary", { "aria-label": `Move story ${plain(story.key)}`, data: { focus: `menu ${story.key}` } }, "Move"),
            el(
              "div",
              { class: "choices" },
              targets.map((target) => button(words(target), (event) => this._choose(event.target, story.key, status, target))),
            ),
          )
        : null,
    );
    card.addEventListener("dragstart", (event) => {
      this._dragged = { key: story.key, status };
      event.dataTransfer.setData(CARRIED, story.key);
      event.dataTransfer.effectAllowed = "move";
      card.classList.add("dragged");
    });
    card.addEventListener("dragend", () => this._end());
    return card;
  }

  _end() {
    this._dragged = null;
    this._columns.querySelector(".dragged")?.classList.remove("dragged");
  }

  /** The menu closes and keeps the focus, wherever the card goes. */
  _choose(chosen, key, from, to) {
    const menu = chosen.closest("details");
    menu.open = false;
    menu.querySelector("summary").focus();
    this._move(key, from, to);
  }

  async _move(key, from, to) {
    try {
      const moved = await this._act.move(key, from, to);
      this._say(`Story ${plain(key)} is ${words(moved.story.status)} now.`);
    } catch (error) {
      this._say(error.message, true);
    }
  }
}
