// A device: its latest values, a key over time, its attributes, its sessions, and what can be sent to it.

import { Chart, ago, ask, card, count, devicePath, h, short, swap, table, when } from "./parts.js";
import { kinds, sessionTable } from "./devices.js";

const HOUR = 3_600_000;
const SPANS = [["1 h", HOUR], ["24 h", 24 * HOUR], ["7 d", 168 * HOUR], ["All", null]];
const POINTS = 2000;

export class Device {
  constructor(name, can) {
    this.name = name;
    this.title = name;
    this.key = null;
    this.span = SPANS[3];
    this.heading = h("div", { class: "title" }, h("h1", {}, name));
    this.about = h("dl", { class: "pairs" });
    this.latest = h("div");
    this.history = h("div");
    this.attributes = h("div");
    this.sessions = h("div");
    this.chart = new Chart({ label: "The key over time", kind: "tall", format: short, area: true, ticks: timeTicks, name: when });
    this.element = h(
      "div",
      {},
      this.heading,
      h(
        "div",
        { class: "grid" },
        card("Latest values", [], this.latest),
        this.historyCard(),
        this.attributesCard(),
        can.rpc ? this.rpcCard() : null,
        card("About", [], this.about),
        h("section", { class: "card wide" }, h("header", {}, h("h2", {}, "DTLS sessions")), this.sessions),
      ),
    );
  }

  path(rest = "") {
    return devicePath(this.name, rest);
  }

  async load() {
    const [device] = await Promise.all([ask(this.path()), this.loadLatest(), this.loadAttributes(), this.loadSessions()]);
    this.showAbout(device);
  }

  /** Every few seconds, while the page is open. */
  async refresh() {
    await Promise.all([this.loadLatest(), this.loadAttributes(), this.loadSessions()]);
  }

  showAbout(device) {
    const secret = h("code", {}, "••••••••");
    const show = h("button", { type: "button", class: "link", "aria-label": "Show the credential" }, "Show");
    show.addEventListener("click", () => {
      const hidden = show.textContent === "Show";
      secret.textContent = hidden ? device.credentialsId : "••••••••";
      show.textContent = hidden ? "Hide" : "Show";
    });
    const isSecret = device.credentialsType === "ACCESS_TOKEN";
    const pair = (title, ...value) => [h("dt", {}, title), h("dd", {}, ...value)];
    this.about.replaceChildren(
      ...pair("Profile", device.profile),
      ...pair("Added", when(device.createdMs)),
      ...pair("Credential", kinds[device.credentialsType] ?? device.credentialsType),
      ...(device.credentialsId === undefined
        ? []
        : isSecret
          ? pair("Token", secret, " ", show)
          : pair("Fingerprint", h("code", {}, device.credentialsId))),
      ...pair("Number", String(device.id)),
    );
  }

  async loadLatest() {
    const latest = await ask(this.path("/telemetry"));
    const keys = Object.keys(latest);
    if (keys.length === 0) {
      swap(this.latest, h("p", { class: "empty" }, "It has sent no readings yet."));
      this.history.replaceChildren(h("p", { class: "empty" }, "There is nothing to draw yet."));
      return;
    }
    if (this.key === null || !keys.includes(this.key)) {
      this.key = keys.find((key) => typeof latest[key].value === "number") ?? keys[0];
    }
    const pick = (key) => () => {
      this.key = key;
      this.loadLatest();
    };
    const rows = keys.map((key) =>
      h(
        "tr",
        { class: key === this.key ? "pick picked" : "pick", onclick: pick(key) },
        h("td", {}, h("button", { type: "button", class: "link", "aria-label": `Draw ${key}`, "aria-pressed": String(key === this.key) }, key)),
        h("td", { class: "value number" }, text(latest[key].value)),
        h("td", { class: "number muted small", title: when(latest[key].ts) }, ago(latest[key].ts)),
      ),
    );
    swap(this.latest, table("Latest values", [["Key", ""], ["Value", "number"], ["When", "number"]], rows));
    await this.loadHistory();
  }

  historyCard() {
    this.spans = h("div", { class: "choices", role: "group", "aria-label": "How far back" });
    for (const span of SPANS) {
      const choose = () => {
        this.span = span;
        this.loadHistory();
      };
      this.spans.append(h("button", { type: "button", onclick: choose }, span[0]));
    }
    this.historyTitle = h("h2", {}, "History");
    return h("section", { class: "card" }, h("header", {}, this.historyTitle, h("div", { class: "legend" }, this.spans)), this.history);
  }

  async loadHistory() {
    const { key } = this;
    [...this.spans.children].forEach((button, at) => button.setAttribute("aria-pressed", String(SPANS[at] === this.span)));
    if (key === null) return;
    const from = this.span[1] === null ? "" : `&from=${Date.now() - this.span[1]}`;
    const { readings } = await ask(this.path(`/telemetry?key=${encodeURIComponent(key)}&limit=${POINTS}${from}`));
    if (key !== this.key) return;
    this.historyTitle.textContent = `${key} over time`;
    readings.reverse();
    const numbers = readings.map(({ ts, value }) => [ts, typeof value === "boolean" ? Number(value) : value]);
    const drawn = numbers.filter(([, value]) => typeof value === "number");
    if (readings.length === 0) {
      this.history.replaceChildren(h("p", { class: "empty" }, "No reading in this time."));
    } else if (drawn.length === 0) {
      const rows = readings.slice(-10).reverse();
      this.history.replaceChildren(
        table("Readings", [["Value", "value"], ["When", "number"]], rows.map(({ ts, value }) => [text(value), when(ts)])),
      );
    } else {
      this.chart.options.step = typeof readings[0].value === "boolean";
      this.chart.svg.setAttribute("aria-label", `${key} over time, ${drawn.length} readings, the latest ${drawn.at(-1)[1]}`);
      const [first, last] = [drawn[0][0], drawn.at(-1)[0]];
      const end = this.span[1] === null ? last : Date.now();
      const start = this.span[1] === null ? first : end - this.span[1];
      const range = start === end ? [start - 60_000, end + 60_000] : [start, end];
      const note = readings.length === POINTS ? `the newest ${count(POINTS)} readings` : `${count(drawn.length)} reading${drawn.length === 1 ? "" : "s"}`;
      if (!this.chart.element.isConnected) this.history.replaceChildren(this.chart.element, h("p", { class: "muted small" }));
      this.history.lastChild.textContent = note;
      this.chart.show([{ name: "", points: drawn }], range);
    }
  }

  attributesCard() {
    const [key, value] = ["key", "value"].map((name) => h("input", { name, required: true, autocomplete: "off", spellcheck: "false" }));
    const scope = h("select", { name: "scope" }, h("option", { value: "shared" }, "shared"), h("option", { value: "server" }, "server"));
    const outcome = h("p", { class: "outcome", role: "status" });
    const set = (event) => {
      event.preventDefault();
      const body = { [key.value]: parsed(value.value) };
      told(outcome, async () => {
        await ask(this.path(`/attributes/${scope.value}`), { method: "PUT", body });
        await this.loadAttributes();
        const done = `${key.value} is set.`;
        key.value = value.value = "";
        return done;
      });
    };
    const form = h(
      "form",
      { onsubmit: set },
      h("label", {}, "Key", key),
      h("label", {}, "Value", value),
      h("label", { class: "narrow" }, "Scope", scope),
      h("button", {}, "Set"),
      outcome,
    );
    return card("Attributes", [], this.attributes, form);
  }

  async loadAttributes() {
    const attributes = await ask(this.path("/attributes"));
    const rows = ["client", "shared", "server"].flatMap((scope) =>
      Object.entries(attributes[scope]).map(([key, { ts, value }]) => {
        const remove = async () => {
          await ask(this.path(`/attributes/${scope}/${encodeURIComponent(key)}`), { method: "DELETE" });
          await this.loadAttributes();
        };
        const button = h("button", { type: "button", class: "link", "aria-label": `Delete the ${scope} attribute ${key}`, onclick: remove }, "Delete");
        return [key, text(value), h("span", { class: "muted" }, scope), h("span", { class: "muted small", title: when(ts) }, ago(ts)), button];
      }),
    );
    swap(
      this.attributes,
      rows.length === 0
        ? h("p", { class: "empty" }, "It has none.")
        : table("Attributes", [["Key", ""], ["Value", "value"], ["Scope", ""], ["Set", "number spare"], ["", "number"]], rows),
    );
  }

  rpcCard() {
    const method = h("input", { name: "method", required: true, autocomplete: "off", spellcheck: "false" });
    const params = h("textarea", { name: "params", spellcheck: "false" }, "{}");
    const kind = h("select", { name: "kind" }, h("option", { value: "twoway" }, "with answer"), h("option", { value: "oneway" }, "without answer"));
    const outcome = h("p", { class: "outcome mono", role: "status" });
    const send = (event) => {
      event.preventDefault();
      const body = { method: method.value, params: parsed(params.value), mode: kind.value };
      told(outcome, async () => {
        const answer = await ask(this.path("/rpc"), { method: "POST", body });
        return answer === null ? "Sent." : JSON.stringify(answer);
      });
    };
    const form = h(
      "form",
      { onsubmit: send },
      h("label", {}, "Method", method),
      h("label", { class: "narrow" }, "Kind", kind),
      h("label", { class: "whole" }, "Parameters, JSON", params),
      h("button", {}, "Send"),
      outcome,
    );
    return card("Remote procedure call", [], form);
  }

  async loadSessions() {
    const page = await ask(`/api/sessions?device=${encodeURIComponent(this.name)}`);
    const none = "It has no session that has proven to be this device. One whose requests bring its token each is among the sessions of all.";
    swap(
      this.sessions,
      page.sessions.length === 0 ? h("p", { class: "empty" }, none) : sessionTable(page.sessions, () => this.loadSessions()),
    );
  }
}

/** A value as text: text as it is, the rest as JSON. */
function text(value) {
  return typeof value === "string" ? value : JSON.stringify(value);
}

/** JSON if it reads as such, else text. */
function parsed(value) {
  try {
    return JSON.parse(value);
  } catch {
    return value;
  }
}

/** Runs what a form asks for, and tells how it went. */
async function told(outcome, work) {
  outcome.className = outcome.className.replace(/ (bad|good)/g, "");
  outcome.textContent = "…";
  try {
    outcome.textContent = await work();
    outcome.className += " good";
  } catch (error) {
    outcome.textContent = error.message;
    outcome.className += " bad";
  }
}

/** Times of a clock or of a calendar, as the range asks for. */
function timeTicks([from, to], width) {
  const number = Math.max(2, Math.floor(width / 130));
  const long = to - from > 36 * HOUR;
  const options = long ? { month: "short", day: "numeric" } : { hour: "2-digit", minute: "2-digit", second: to - from < HOUR / 6 ? "2-digit" : undefined };
  return Array.from({ length: number }, (_, at) => {
    const time = from + ((to - from) * at) / (number - 1);
    return [time, new Date(time).toLocaleString(undefined, options)];
  });
}
