// A device: its latest values, a key over time, its attributes, its sessions, and what can be sent to it.

import { Chart, ago, ask, askIfThere, card, count, devicePath, h, short, swap, table, when } from "./parts.js";
import { deviceState, kinds, sessionTable } from "./devices.js";
import { packageName, powerSaving } from "./profiles.js";

const HOUR = 3_600_000;
const SPANS = [["1 h", HOUR], ["24 h", 24 * HOUR], ["7 d", 168 * HOUR], ["All", null]];
const POINTS = 2000;
/** What names a credential of each kind. */
const credentials = { ACCESS_TOKEN: "Token", X509_CERTIFICATE: "Fingerprint", PRE_SHARED_KEY: "Identity", MQTT_BASIC: "Client and user" };
/** What a call is sent with, by its kind in the form. */
const calls = {
  twoway: () => ({ mode: "twoway" }),
  oneway: () => ({ mode: "oneway" }),
  kept: () => ({ persistent: true, expirationMs: Date.now() + 24 * HOUR }),
};

export class Device {
  constructor(name) {
    this.name = name;
    this.title = name;
    this.key = null;
    this.span = SPANS[3];
    this.heading = h("div", { class: "title" }, h("h1", {}, name));
    this.about = h("dl", { class: "pairs" });
    this.latest = h("div", { class: "many" });
    this.history = h("div");
    this.attributes = h("div", { class: "many" });
    this.sessions = h("div");
    this.calls = h("div", { class: "below" });
    this.isSecretShown = false;
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
        this.rpcCard(),
        h("section", { class: "card wide" }, h("header", {}, h("h2", {}, "About")), this.about),
        h("section", { class: "card wide" }, h("header", {}, h("h2", {}, "DTLS sessions")), this.sessions),
      ),
    );
  }

  path(rest = "") {
    return devicePath(this.name, rest);
  }

  async load() {
    await this.refresh();
  }

  /** Every few seconds, while the page is open. */
  async refresh() {
    await Promise.all([this.loadAbout(), this.loadLatest(), this.loadAttributes(), this.loadCalls(), this.loadSessions()]);
  }

  async loadAbout() {
    const device = await ask(this.path());
    const [profile, options, claim, { packages }] = await Promise.all([
      askIfThere(`/api/profiles/${encodeURIComponent(device.profile)}`),
      ask(this.path("/options")),
      ask(this.path("/claim")),
      ask("/api/ota"),
    ]);
    const { activity = {}, credentialsId } = device;
    const pair = (title, ...value) => [h("dt", {}, title), h("dd", {}, ...value)];
    const optional = (title, value) => (value === null || value === undefined ? [] : pair(title, value));
    const given = (kind) => {
      const number = options[kind] ?? profile?.settings[kind];
      if (number === undefined) return null;
      return `${packageName(packages, number)}, ${options[kind] === undefined ? "its profile's" : "its own"}`;
    };
    swap(
      this.about,
      ...pair("State", deviceState(activity.active), activity.lastActivityTime ? `, last heard of ${when(activity.lastActivityTime)}` : ", never heard of"),
      ...pair("Observes", observed(activity)),
      ...pair("Profile", device.profile, profile === null ? h("span", { class: "muted" }, " (not defined: nothing is set by it)") : null),
      ...optional("Power saving", powerSaving(options.powerSaving) ?? powerSaving(profile?.settings.powerSaving)),
      ...optional("Firmware", given("firmware")),
      ...optional("Software", given("software")),
      ...optional("Customer", claim.customer),
      ...optional("Claim", claim.claimableUntilMs === undefined ? null : `it can be claimed until ${when(claim.claimableUntilMs)}`),
      ...pair("Credential", kinds[device.credentialsType] ?? device.credentialsType),
      ...(credentialsId === undefined ? [] : pair(credentials[device.credentialsType] ?? "Id", ...this.credential(device))),
      ...pair("Added", `${when(device.createdMs)}, number ${device.id}`),
    );
  }

  /** What names the device; one that opens the door is shown only when asked for. */
  credential({ credentialsType, credentialsId }) {
    if (credentialsType !== "ACCESS_TOKEN") return [h("code", {}, credentialsId)];
    const toggle = () => {
      this.isSecretShown = !this.isSecretShown;
      this.loadAbout();
    };
    const what = this.isSecretShown ? "Hide" : "Show";
    const button = h("button", { type: "button", class: "link", "aria-label": `${what} the credential`, onclick: toggle }, what);
    return [h("code", {}, this.isSecretShown ? credentialsId : "••••••••"), " ", button];
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
        h("td", { class: "value number" }, shown(latest[key].value)),
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
        table("Readings", [["Value", "value"], ["When", "number"]], rows.map(({ ts, value }) => [shown(value), when(ts)])),
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
        return [key, shown(value), h("span", { class: "muted" }, scope), h("span", { class: "muted small", title: when(ts) }, ago(ts)), button];
      }),
    );
    swap(
      this.attributes,
      rows.length === 0
        ? h("p", { class: "empty" }, "It has none.")
        : table("Attributes", [["Key", "value"], ["Value", "value"], ["Scope", ""], ["Set", "number spare"], ["", "number"]], rows),
    );
  }

  rpcCard() {
    const method = h("input", { name: "method", required: true, autocomplete: "off", spellcheck: "false" });
    const params = h("textarea", { name: "params", spellcheck: "false" }, "{}");
    const kind = h(
      "select",
      { name: "kind" },
      h("option", { value: "twoway" }, "with answer"),
      h("option", { value: "oneway" }, "without answer"),
      h("option", { value: "kept" }, "kept for a day"),
    );
    const outcome = h("p", { class: "outcome mono", role: "status" });
    const send = (event) => {
      event.preventDefault();
      told(outcome, async () => {
        const body = { method: method.value, params: strictly(params.value), ...calls[kind.value]() };
        const answer = await ask(this.path("/rpc"), { method: "POST", body });
        await this.loadCalls();
        if (kind.value === "kept") return `Kept as call ${answer.rpcId} until ${when(body.expirationMs)}.`;
        return answer === null ? "Sent." : JSON.stringify(answer);
      });
    };
    const form = h(
      "form",
      { onsubmit: send },
      h("label", {}, "Method", method),
      h("label", { class: "kind" }, "Kind", kind),
      h("label", { class: "whole" }, "Parameters, JSON", params),
      h("button", {}, "Send"),
      outcome,
    );
    return card("Remote procedure call", [], form, this.calls);
  }

  /** The calls that are under way or kept; none is the usual case, and takes no room. */
  async loadCalls() {
    const list = await ask(this.path("/rpc"));
    const rows = list.map((call) => {
      const remove = async () => {
        await askIfThere(this.path(`/rpc/${call.id}`), { method: "DELETE" });
        await this.loadCalls();
      };
      const button = h("button", { type: "button", class: "link", "aria-label": `Delete the call ${call.id}`, onclick: remove }, "Delete");
      return [
        String(call.id),
        call.method,
        h("span", { class: "muted small", title: when(call.createdMs) }, call.state.toLowerCase()),
        call.response === undefined ? "" : h("code", {}, JSON.stringify(call.response)),
        button,
      ];
    });
    const columns = [["Call", ""], ["Method", "value"], ["State", ""], ["Answer", "spare"], ["", "number"]];
    swap(this.calls, ...(rows.length === 0 ? [] : [table("Calls", columns, rows)]));
  }

  async loadSessions() {
    const page = await ask(`/api/sessions?device=${encodeURIComponent(this.name)}`);
    const none = "No session is known to be this device's. One whose requests each bring its token is known only while the device observes something; all are under Sessions.";
    swap(
      this.sessions,
      page.sessions.length === 0 ? h("p", { class: "empty" }, none) : sessionTable(page.sessions, () => this.loadSessions()),
    );
  }
}

/** A value: text as it is, the rest as JSON; what is long is cut on the page, and whole when it is pointed at. */
function shown(value) {
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return text.length < 60 ? text : h("span", { class: "clamp", title: text }, text);
}

/** JSON if it reads as such, else text. */
function parsed(value) {
  try {
    return JSON.parse(value);
  } catch {
    return value;
  }
}

/** JSON, which it must be. */
function strictly(value) {
  try {
    return JSON.parse(value);
  } catch {
    throw new Error("The parameters are not JSON: write text in quotes, and {} when there are none.");
  }
}

/** What a device observes: whether calls and changes reach it. */
function observed({ observes = [], lastDisconnectTime }) {
  const names = { attributes: "attributes", rpc: "calls" };
  if (observes.length > 0) return observes.map((topic) => names[topic]).join(" and ");
  return h("span", { class: "muted" }, lastDisconnectTime ? `nothing; it did until ${when(lastDisconnectTime)}` : "nothing");
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
