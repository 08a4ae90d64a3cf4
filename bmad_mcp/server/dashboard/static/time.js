// Moments as people read them, and leases that tick.
import { el } from "./text.js";

let ahead = 0;

/** Leases end by the server's clock; the `Date` of an answer tells how far this machine's is from it. */
export function followClock(date) {
  const server = Date.parse(date ?? "");
  // The header has whole seconds: less than two of difference is none.
  if (!Number.isNaN(server)) ahead = Math.abs(server - Date.now()) < 2000 ? 0 : server - Date.now();
}

const now = () => Date.now() + ahead;

/** A duration in seconds as `2 d 4 h`, `3 h 5 min`, `4 min`, `12 s`; a dash for none. */
export function lasted(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
  return hours % 24 ? `${Math.floor(hours / 24)} d ${hours % 24} h` : `${Math.floor(hours / 24)} d`;
}

function left(until) {
  const seconds = Math.ceil((Date.parse(until) - now()) / 1000);
  if (seconds <= 0) return "lease passed";
  if (seconds >= 3600) return `${lasted(seconds)} left`;
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")} left`;
}

function ago(at) {
  const seconds = Math.max(0, (now() - Date.parse(at)) / 1000);
  return seconds < 5 ? "just now" : `${lasted(seconds)} ago`;
}

/** The time that a lease has left, counted down. */
export const countdown = (until) =>
  el("time", { class: "lease", datetime: until, data: { until }, title: new Date(until).toLocaleString() }, left(until));

/** How long ago something was, kept up to date. */
export const since = (at) =>
  at ? el("time", { datetime: at, data: { at }, title: new Date(at).toLocaleString() }, ago(at)) : el("span", {}, "never");

function tick() {
  for (const one of document.querySelectorAll("time[data-until]")) {
    one.textContent = left(one.dataset.until);
    one.classList.toggle("soon", Date.parse(one.dataset.until) - now() < 120_000);
  }
  for (const one of document.querySelectorAll("time[data-at]")) one.textContent = ago(one.dataset.at);
}

export const startTicking = () => setInterval(tick, 1000);
