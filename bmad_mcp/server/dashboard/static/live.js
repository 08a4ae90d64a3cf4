// What happens, as it happens: a stream of events, or looking often where the server has none.
import { call, who } from "./rest.js";

const STREAM = "api/v1/bmad/live";
const LOOK_MS = 2000;
const AGAIN_MS = [500, 1000, 2000, 5000, 10_000];

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Server-sent events in a piece of text: [{id, data}], and what is left of the last one. */
function eventsIn(text) {
  const blocks = text.replaceAll("\r\n", "\n").split("\n\n");
  const rest = blocks.pop();
  const events = blocks.map((block) => {
    const event = { data: [] };
    for (const line of block.split("\n")) {
      const [, name, value] = /^([^:]*):? ?(.*)$/.exec(line);
      if (name === "data") event.data.push(value);
      else if (name === "id") event.id = value;
    }
    return { id: event.id, data: event.data.join("\n") };
  });
  return { events, rest };
}

export class Live {
  /** `changed(event)` is told each change, `state(word)` how they come: live, looking, or away. */
  constructor({ changed, state }) {
    this._changed = changed;
    this._state = state;
    this._last = null;
    this._seen = null;
    this._isOver = false;
  }

  stop() {
    this._isOver = true;
    this._abort?.abort();
  }

  async run() {
    for (let failures = 0; !this._isOver; failures += 1) {
      try {
        if (!(await this._listen(() => (failures = 0)))) {
          await this._lookOften();
          return;
        }
      } catch {
        // A lost stream is taken up again below.
      }
      if (this._isOver) return;
      this._state("away");
      await pause(AGAIN_MS[Math.min(failures, AGAIN_MS.length - 1)]);
    }
  }

  /** Follow the stream to its end; false where the server has none. EventSource could send no token. */
  async _listen(began) {
    this._abort = new AbortController();
    const headers = { accept: "text/event-stream", ...who() };
    if (this._last) headers["last-event-id"] = this._last;
    const answer = await fetch(STREAM, { headers, cache: "no-store", signal: this._abort.signal });
    if (answer.status === 404) return false;
    if (!answer.ok) {
      // Whoever reads now learns that the token is gone.
      if (answer.status === 401) this._changed({});
      throw new Error(`The stream answered ${answer.status}.`);
    }
    began();
    this._state("live");
    // What happened while nobody listened may be more than the stream repeats.
    this._changed({});
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let kept = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return true;
      const { events, rest } = eventsIn(kept + value);
      kept = rest;
      for (const event of events) this._take(event);
    }
  }

  _take({ id, data }) {
    if (id) this._last = id;
    if (!data) return;
    try {
      this._changed(JSON.parse(data));
    } catch {
      this._changed({});
    }
  }

  async _lookOften() {
    while (!this._isOver) {
      try {
        const [latest] = (await call("activity_list", { limit: 1 })).items;
        this._state("looking");
        const seen = JSON.stringify(latest ?? null);
        if (this._seen !== null && seen !== this._seen) this._changed({});
        this._seen = seen;
      } catch {
        this._state("away");
      }
      await pause(LOOK_MS);
    }
  }
}
