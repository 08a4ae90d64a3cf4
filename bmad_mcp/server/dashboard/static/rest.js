// Operations over REST, with the token of this page.
import { ROUTES } from "./routes.js";
import { followClock } from "./time.js";

// Relative to the page, which a proxy may serve below a path.
const PREFIX = "api/v1/bmad";
const KEPT = "bmad.access";

class Refused extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

/** The token and the project that this tab was given; the browser drops them with the tab. */
export const access = {
  read: () => JSON.parse(sessionStorage.getItem(KEPT) ?? "{}"),
  keep: (token, project) => sessionStorage.setItem(KEPT, JSON.stringify({ token, project })),
  forget: () => sessionStorage.removeItem(KEPT),
};

/** The headers that say who asks, and for which project. */
export function who() {
  const { token, project } = access.read();
  return {
    ...(token ? { authorization: `Bearer ${token}` } : {}),
    ...(project ? { "x-bmad-project": project } : {}),
    "x-bmad-session": "dashboard",
  };
}

const tags = new Map();

/** The JSON at an address of this server; what has an entity tag is sent again only when it changed. */
export async function fetchJson(address, { verb = "GET", body } = {}) {
  const known = verb === "GET" ? tags.get(address) : undefined;
  const headers = { accept: "application/json", ...who() };
  if (known) headers["if-none-match"] = known.tag;
  if (body) headers["content-type"] = "application/json";
  let answer;
  try {
    answer = await fetch(address, { method: verb, headers, body: body && JSON.stringify(body), cache: "no-store" });
  } catch {
    throw new Refused(0, "The server does not answer. Start it again, or look at the network.");
  }
  followClock(answer.headers.get("date"));
  if (answer.status === 304) return known.value;
  const value = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refused(answer.status, value.detail ?? `The server answered ${answer.status}.`);
  const tag = answer.headers.get("etag");
  if (verb === "GET" && tag) tags.set(address, { tag, value });
  return value;
}

/** Run an operation by its name. */
export function call(name, given = {}) {
  const [verb, template] = ROUTES[name].split(" ");
  const rest = { ...given };
  const path = template.replace(/\{(\w+)\}/g, (_, field) => {
    const value = rest[field];
    delete rest[field];
    return encodeURIComponent(value);
  });
  const told = Object.entries(rest).filter(([, value]) => value !== undefined && value !== "");
  if (verb !== "GET") return fetchJson(PREFIX + path, { verb, body: Object.fromEntries(told) });
  const query = new URLSearchParams(told.flatMap(([name, value]) => [value].flat().map((one) => [name, one]))).toString();
  return fetchJson(PREFIX + path + (query ? `?${query}` : ""));
}
