// What a person does on the board: each is one call of an operation, with the version or the lease that it needs.

/** A key that makes a repeated call harmless. crypto.randomUUID would be missing outside HTTPS and localhost. */
function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

export class Actions {
  /** `call(name, arguments)` runs an operation; `changed()` is told after each write. */
  constructor(call, changed) {
    this._call = call;
    this._changed = changed;
    // Leases that were taken here, by task: their numbers are told only to who claims.
    this.leases = new Map();
    this.agent = "dev";
  }

  async _write(name, given) {
    try {
      return await this._call(name, { ...given, idempotency_key: newKey() });
    } finally {
      // After a refusal too: what was shown is not what is.
      this._changed();
    }
  }

  /** Move a story from the status that was shown; refused when somebody moved or changed it meanwhile. */
  async move(story, from, to) {
    const now = await this._call("story_get", { story });
    if (now.status !== from) {
      this._changed();
      throw new Error(`Story ${story} is ${now.status} by now, so it was not moved. Look at the board again.`);
    }
    return this._write("story_update", { story, expected_version: now.version, status: to });
  }

  async claim(task) {
    const claimed = await this._write("task_claim", { agent: this.agent, task });
    if (!claimed.task) throw new Error(claimed.why ?? `${task} cannot be claimed now.`);
    this.leases.set(task, claimed.lease);
    return claimed;
  }

  start(task) {
    return this._write("task_start", { task, agent: this.agent, lease: this.leases.get(task) });
  }

  extend(task) {
    return this._write("task_heartbeat", { task, lease: this.leases.get(task) });
  }

  async complete(task) {
    const done = await this._write("task_complete", { task, lease: this.leases.get(task) });
    this.leases.delete(task);
    return done;
  }

  async release(task) {
    const done = await this._write("task_update", { task, lease: this.leases.get(task), status: "pending" });
    this.leases.delete(task);
    return done;
  }
}
