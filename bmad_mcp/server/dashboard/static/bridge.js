// The view's side of MCP Apps: JSON-RPC with the host by postMessage.

const PROTOCOL = "2026-01-26";

export class Bridge {
  /** `on` maps the methods of notifications to functions of their parameters. */
  constructor(version, on) {
    this._version = version;
    this._on = on;
    this._waiting = new Map();
    this._last = 0;
    window.addEventListener("message", (event) => this._receive(event));
  }

  /** Shake hands; gives what the host can do and how it looks. */
  async connect() {
    const told = await this._ask("ui/initialize", {
      protocolVersion: PROTOCOL,
      appInfo: { name: "bmad-mcp", version: this._version },
      appCapabilities: { availableDisplayModes: ["inline", "fullscreen"] },
    });
    this._tell("ui/notifications/initialized", {});
    return told;
  }

  /** The structured result of a tool; a refusal is an Error with its sentence. */
  async call(name, given) {
    const sent = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
    const result = await this._ask("tools/call", { name, arguments: sent });
    if (result.isError) throw new Error(result.content?.[0]?.text ?? `${name} was refused.`);
    return structured(result);
  }

  /** The JSON of a resource. */
  async read(uri) {
    const { contents } = await this._ask("resources/read", { uri });
    return JSON.parse(contents[0].text);
  }

  size(width, height) {
    this._tell("ui/notifications/size-changed", { width, height });
  }

  _ask(method, params) {
    const id = ++this._last;
    // The host's origin is not known before it speaks; what is sent are names of tools and keys of the project.
    window.parent.postMessage({ jsonrpc: "2.0", id, method, params }, "*");
    return new Promise((resolve, reject) => this._waiting.set(id, { resolve, reject }));
  }

  _tell(method, params) {
    window.parent.postMessage({ jsonrpc: "2.0", method, params }, "*");
  }

  _receive(event) {
    const message = event.data;
    // Any page may post here: only the window that holds the view is its host.
    if (event.source !== window.parent || message?.jsonrpc !== "2.0") return;
    if (message.method === undefined) {
      const waiting = this._waiting.get(message.id);
      this._waiting.delete(message.id);
      if (message.error) waiting?.reject(new Error(message.error.message));
      else waiting?.resolve(message.result);
    } else if (message.id === undefined) {
      this._on[message.method]?.(message.params ?? {});
    } else {
      this._answer(message);
    }
  }

  _answer({ id, method }) {
    const known = method === "ping" || method === "ui/resource-teardown";
    const told = known ? { result: {} } : { error: { code: -32601, message: `The view does not know ${method}.` } };
    window.parent.postMessage({ jsonrpc: "2.0", id, ...told }, "*");
  }
}

/** What a tool's result holds as data; older hosts pass on only the text, which is the same as JSON. */
export function structured(result) {
  return result.structuredContent ?? JSON.parse(result.content?.find((one) => one.type === "text")?.text ?? "{}");
}
