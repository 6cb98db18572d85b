// What all pages use: elements, numbers, the way to the server, and charts.

const TOKEN = "tidegate-token";
const SVG = "http://www.w3.org/2000/svg";

/** Makes an element: h("p", {class: "muted"}, "text", child). Text is always text, never markup. */
export function h(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** The same for what is drawn. */
export function s(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== undefined && value !== null) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

// Numbers and times for people.

const grouped = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const fine = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });

export function count(value) {
  return grouped.format(value);
}

/** A number that fits a tile: 12 345, 1.23 M. */
export function short(value) {
  if (Math.abs(value) >= 1e9) return `${fine.format(value / 1e9)} G`;
  if (Math.abs(value) >= 1e6) return `${fine.format(value / 1e6)} M`;
  if (Math.abs(value) >= 1e4) return `${fine.format(value / 1e3)} k`;
  return Math.abs(value) >= 100 || Number.isInteger(value) ? grouped.format(value) : fine.format(value);
}

export function bytes(value) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${fine.format(value)} ${units[unit]}`;
}

/** Microseconds; null is longer than the server measures. */
export function micros(value) {
  if (value === null) return "> 67 s";
  if (value < 1000) return `${fine.format(value)} µs`;
  if (value < 1e6) return `${fine.format(value / 1e3)} ms`;
  return `${fine.format(value / 1e6)} s`;
}

export function seconds(value) {
  if (value < 60) return `${value} s`;
  if (value < 3600) return `${Math.floor(value / 60)} min`;
  if (value < 86400) return `${Math.floor(value / 3600)} h ${Math.floor((value % 3600) / 60)} min`;
  return `${Math.floor(value / 86400)} d ${Math.floor((value % 86400) / 3600)} h`;
}

export function ago(ms) {
  const passed = Math.round((Date.now() - ms) / 1000);
  return passed < 0 ? "in the future" : `${seconds(passed)} ago`;
}

export function when(ms) {
  const date = new Date(ms);
  return Number.isNaN(date.getTime()) ? String(ms) : date.toLocaleString();
}

// The server.

export class Refused extends Error {
  constructor(status, error) {
    const remedy = error.remedy ? `; ${error.remedy}` : "";
    super(`${error.message ?? `answered ${status}`}${remedy}`);
    this.status = status;
  }
}

export function token() {
  return sessionStorage.getItem(TOKEN);
}

export function keepToken(value) {
  if (value) sessionStorage.setItem(TOKEN, value);
  else sessionStorage.removeItem(TOKEN);
}

/** Asks the server; `body` is sent as JSON. Gives what it answers, JSON numbers that JavaScript cannot hold left as they are read. */
export async function ask(path, { method = "GET", body, signal } = {}) {
  const headers = {};
  if (token()) headers.authorization = `Bearer ${token()}`;
  if (body !== undefined) headers["content-type"] = "application/json";
  const answer = await fetch(path, {
    method,
    headers,
    signal,
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const text = await answer.text();
  let value = null;
  try {
    value = text === "" ? null : JSON.parse(text);
  } catch {
    value = { message: text.trim() };
  }
  if (!answer.ok) throw new Refused(answer.status, value ?? {});
  return value;
}

/** The same; null when there is no such thing. */
export async function askIfThere(path, options) {
  try {
    return await ask(path, options);
  } catch (error) {
    if (error instanceof Refused && error.status === 404) return null;
    throw error;
  }
}

/** Puts `parts` in the place of what is in `place`, unless it is the same: what was selected or has the focus stays then. What was scrolled to stays in any case. */
export function swap(place, ...parts) {
  const same = place.childNodes.length === parts.length && parts.every((part, at) => part.isEqualNode(place.childNodes[at]));
  if (same) return;
  const scrolled = place.firstElementChild?.scrollTop ?? 0;
  place.replaceChildren(...parts);
  if (scrolled > 0) place.firstElementChild.scrollTop = scrolled;
}

export function devicePath(name, rest = "") {
  return `/api/devices/${encodeURIComponent(name)}${rest}`;
}

// Tables.

/** A table: columns are [heading, class], rows are arrays of cells or of their content. */
export function table(caption, columns, rows) {
  const heads = columns.map(([title, kind]) => h("th", { scope: "col", class: kind }, title));
  const cell = (content, at) => h("td", { class: columns[at][1] }, content);
  const line = (row) => (row instanceof Node ? row : h("tr", {}, row.map(cell)));
  return h(
    "div",
    { class: "scroll" },
    h("table", {}, h("caption", {}, caption), h("thead", {}, h("tr", {}, heads)), h("tbody", {}, rows.map(line))),
  );
}

// Charts.

const LEFT = 46;
const RIGHT = 8;
const TOP = 8;
const BOTTOM = 20;

/** Round numbers from `low` or below to `high` or above; whole ones where parts make no sense. */
function scale(low, high, whole) {
  if (!(high > low)) high = low + 1;
  const rough = Math.max((high - low) / 4, whole ? 1 : 0);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((one) => one >= rough);
  const first = Math.floor(low / step + 1e-9) * step;
  const ticks = [];
  for (let tick = first; ticks.length < 9; tick += step) {
    ticks.push(Math.abs(tick) < step * 1e-9 ? 0 : tick);
    if (tick >= high - step * 1e-9) break;
  }
  return ticks;
}

/**
 * A chart of lines over time that is drawn again and again.
 *
 * options: label, format(value), name(x), ticks(range, width), zero (whether 0 is always in sight),
 * least (the top is never below), whole (only whole numbers), area, step.
 */
export class Chart {
  constructor(options) {
    this.options = options;
    this.svg = s("svg", { role: "img", "aria-label": options.label });
    this.tip = h("div", { class: "tip", hidden: true });
    this.element = h("div", { class: `chart ${options.kind ?? ""}` }, this.svg, this.tip);
    this.series = [];
    this.svg.addEventListener("pointermove", (event) => this.point(event));
    this.svg.addEventListener("pointerleave", () => this.leave());
    new ResizeObserver(() => this.draw()).observe(this.element);
  }

  /** Takes series: {name, points: [[x, y], ...]}, x ascending; y null where there is none. */
  show(series, range) {
    this.series = series;
    this.range = range;
    this.draw();
  }

  draw() {
    const { width, height } = this.svg.getBoundingClientRect();
    if (width < 80 || !this.range) return;
    const { options, series } = this;
    const values = series.flatMap(({ points }) => points.map(([, y]) => y)).filter((y) => y !== null);
    const low = options.zero ? 0 : Math.min(...values);
    const high = Math.max(...values, options.zero ? (options.least ?? 1) : -Infinity);
    const ticks = values.length > 0 || options.zero ? scale(low, high, options.whole) : [];
    const [bottom, top] = [ticks[0] ?? 0, ticks.at(-1) ?? 1];
    const [from, to] = this.range;
    this.bottom = bottom;
    this.x = (x) => LEFT + ((x - from) / (to - from || 1)) * (width - LEFT - RIGHT);
    this.y = (y) => height - BOTTOM - ((y - bottom) / (top - bottom || 1)) * (height - TOP - BOTTOM);
    const parts = ticks.map((tick) => {
      const y = this.y(tick);
      return [
        s("line", { class: "rule", x1: LEFT, x2: width - RIGHT, y1: y, y2: y }),
        s("text", { x: LEFT - 7, y: y + 4, "text-anchor": "end" }, options.format(tick)),
      ];
    });
    for (const [at, text] of options.ticks(this.range, width)) {
      const x = this.x(at);
      const anchor = x > width - 40 ? "end" : x < LEFT + 30 ? "start" : "middle";
      parts.push(s("text", { x, y: height - 4, "text-anchor": anchor }, text));
    }
    series.forEach(({ points }, index) => parts.push(this.line(points, index)));
    this.marks = s("g");
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.svg.replaceChildren(...parts.flat(2), this.marks);
    if (this.pointed !== undefined) this.mark();
  }

  line(points, index) {
    const runs = [[]];
    for (const [x, y] of points) {
      if (y === null) {
        if (runs.at(-1).length > 0) runs.push([]);
      } else runs.at(-1).push([this.x(x), this.y(y)]);
    }
    const way = (run) =>
      run
        .map(([x, y], at) => {
          const place = `${x.toFixed(1)} ${y.toFixed(1)}`;
          if (at === 0) return `M${place}`;
          return this.options.step ? `H${x.toFixed(1)}V${y.toFixed(1)}` : `L${place}`;
        })
        .join("");
    const parts = [];
    for (const run of runs.filter((one) => one.length > 0)) {
      if (run.length === 1) {
        parts.push(s("circle", { class: `s${index}`, cx: run[0][0], cy: run[0][1], r: 3 }));
        continue;
      }
      if (this.options.area && index === 0) {
        const floor = this.y(this.bottom);
        const shape = `${way(run)}V${floor.toFixed(1)}H${run[0][0].toFixed(1)}Z`;
        parts.push(s("path", { class: "area s0", d: shape }));
      }
      parts.push(s("path", { class: `s${index}`, d: way(run) }));
    }
    return parts;
  }

  point(event) {
    const box = this.svg.getBoundingClientRect();
    if (!this.x) return;
    const [from, to] = this.range;
    const part = (event.clientX - box.left - LEFT) / (box.width - LEFT - RIGHT);
    this.pointed = from + Math.min(1, Math.max(0, part)) * (to - from);
    this.mark();
  }

  leave() {
    this.pointed = undefined;
    this.tip.hidden = true;
    this.marks?.replaceChildren();
  }

  /** Marks the points nearest to the pointer. */
  mark() {
    const points = this.series[0]?.points ?? [];
    if (points.length === 0) return this.leave();
    let nearest = 0;
    points.forEach(([x], at) => {
      if (Math.abs(x - this.pointed) < Math.abs(points[nearest][0] - this.pointed)) nearest = at;
    });
    const at = points[nearest][0];
    const x = this.x(at);
    const lines = [h("div", { class: "muted" }, this.options.name(at, this.range))];
    const marks = [s("line", { class: "cross", x1: x, x2: x, y1: TOP, y2: this.svg.getBoundingClientRect().height - BOTTOM })];
    this.series.forEach(({ name, points: own }, index) => {
      const y = own[nearest]?.[1] ?? null;
      lines.push(h("div", {}, `${name ? `${name} ` : ""}${y === null ? "–" : this.options.format(y)}`));
      if (y !== null) marks.push(s("circle", { class: `s${index}`, cx: x, cy: this.y(y), r: 4 }));
    });
    this.marks.replaceChildren(...marks);
    this.tip.replaceChildren(...lines);
    this.tip.hidden = false;
    const width = this.element.clientWidth;
    const left = x + 12 + this.tip.offsetWidth > width ? x - 12 - this.tip.offsetWidth : x + 12;
    this.tip.style.left = `${Math.max(0, left)}px`;
  }
}

/** A card with a heading, a legend and what is in it. */
export function card(title, names, ...content) {
  const legend = names.map((name, index) => h("span", { class: `l${index}` }, name));
  return h(
    "section",
    { class: "card" },
    h("header", {}, h("h2", {}, title), names.length > 0 ? h("div", { class: "legend" }, legend) : null),
    ...content,
  );
}
