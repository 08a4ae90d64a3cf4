// Plots in SVG, each with its numbers as a table for those who do not see it.
import { el, table } from "./text.js";

const WIDTH = 320;
const HEIGHT = 120;
const EDGE = 4;
// So many labels fit below a plot; of more, the first and the last are shown.
const FEW = 6;

function scale(lists) {
  const most = Math.max(1, ...lists.flat().filter((value) => value !== null));
  return (value) => HEIGHT - EDGE - (value / most) * (HEIGHT - 2 * EDGE - 10);
}

function framed(title, drawn, labels, series) {
  const all = series.flatMap((one) => one.values).filter((value) => value !== null);
  const most = all.length ? Math.max(...all) : 0;
  const rows = labels.map((label, at) => [label, ...series.map((one) => String(one.values[at] ?? "–"))]);
  return el(
    "figure",
    { class: "plot" },
    el(
      "figcaption",
      {},
      title,
      " ",
      el("small", {}, series.length > 1 ? series.map((one, at) => el("span", { class: `legend p-${at}` }, one.name)) : `most ${most}`),
    ),
    el(
      "svg",
      { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${title}; the numbers are in the table below` },
      el("line", { class: "axis", x1: 0, x2: WIDTH, y1: HEIGHT - EDGE, y2: HEIGHT - EDGE }),
      drawn,
    ),
    el("p", { class: "ends" }, (labels.length > FEW ? [labels[0], labels.at(-1)] : labels).map((label) => el("span", {}, label))),
    el("details", { data: { focus: `numbers ${title}` } }, el("summary", {}, "Numbers"), table(title, ["When", ...series.map((one) => one.name)], rows)),
  );
}

/** Bars over time: `values` are numbers at or above zero. */
export function bars(title, labels, values) {
  const y = scale([values]);
  const step = WIDTH / Math.max(values.length, 1);
  const drawn = values.map((value, at) =>
    el("rect", {
      class: "p-0",
      x: (at * step + step * 0.1).toFixed(2),
      width: (step * 0.8).toFixed(2),
      y: y(value).toFixed(2),
      height: (HEIGHT - EDGE - y(value)).toFixed(2),
    }),
  );
  return framed(title, drawn, labels, [{ name: "Count", values }]);
}

/** Lines over time, with gaps where a value is null; `series` are {name, values}. */
export function lines(title, labels, series) {
  const y = scale(series.map((one) => one.values));
  const x = (at) => (labels.length < 2 ? WIDTH / 2 : EDGE + (at / (labels.length - 1)) * (WIDTH - 2 * EDGE));
  const drawn = series.flatMap((one, number) => {
    const parts = [];
    let isDrawing = false;
    one.values.forEach((value, at) => {
      if (value !== null) parts.push(`${isDrawing ? "L" : "M"}${x(at).toFixed(2)} ${y(value).toFixed(2)}`);
      isDrawing = value !== null;
    });
    const dots = one.values.map((value, at) =>
      value === null ? null : el("circle", { class: `p-${number}`, cx: x(at).toFixed(2), cy: y(value).toFixed(2), r: 2 }),
    );
    return [el("path", { class: `p-${number}`, d: parts.join(" ") }), ...dots.filter(Boolean)];
  });
  return framed(title, drawn, labels, series);
}

/** The first days of the buckets of a series. */
export function buckets(first, bucket, count) {
  const begin = Date.parse(`${first}T00:00:00Z`);
  const length = (bucket === "week" ? 7 : 1) * 86_400_000;
  return Array.from({ length: count }, (_, at) => new Date(begin + at * length).toISOString().slice(0, 10));
}
