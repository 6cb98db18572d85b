// The list of devices.

import { ask, askIfThere, devicePath, h, table, when } from "./parts.js";

const PAGE = 50;

export const kinds = { ACCESS_TOKEN: "access token", X509_CERTIFICATE: "certificate", PRE_SHARED_KEY: "pre-shared key", MQTT_BASIC: "MQTT basic" };

export function deviceLink(name) {
  return h("a", { href: `#/devices/${encodeURIComponent(name)}` }, name);
}

/** Whether a device is active, in words. */
export function deviceState(active) {
  return h("span", { class: active ? "good" : "muted" }, active ? "active" : "inactive");
}

export class Devices {
  title = "Devices";

  constructor() {
    this.input = h("input", { type: "search", name: "start", autocomplete: "off", spellcheck: "false" });
    this.list = h("div", { "aria-live": "polite" });
    const find = h(
      "form",
      { role: "search", onsubmit: (event) => this.find(event) },
      h("label", {}, "Name, or how it begins", this.input),
      h("button", {}, "Find"),
    );
    this.element = h(
      "div",
      {},
      h("div", { class: "title" }, h("h1", {}, "Devices")),
      h("div", { class: "grid" }, h("section", { class: "card wide" }, find)),
      h("div", { class: "grid" }, h("section", { class: "card wide" }, this.list)),
    );
  }

  async load() {
    await this.show([], undefined, "");
  }

  async find(event) {
    event.preventDefault();
    const start = this.input.value;
    // The list starts after a name: one that is the whole of what was typed is asked for by itself.
    const exact = start === "" ? null : await askIfThere(devicePath(start));
    await this.show(exact === null ? [] : [exact], start === "" ? undefined : start, start);
  }

  async show(before, after, start) {
    const place = after === undefined ? "" : `&after=${encodeURIComponent(after)}`;
    const page = await ask(`/api/devices?limit=${PAGE}${place}`);
    const fitting = page.devices.filter((device) => device.name.startsWith(start));
    const devices = [...before, ...fitting];
    const more = fitting.length === page.devices.length && page.nextAfter !== undefined;
    if (devices.length === 0) {
      const text = start === "" ? "No devices yet: tidegate device add NAME adds one." : `No device's name begins with ${start}.`;
      this.list.replaceChildren(h("p", { class: "empty" }, text));
      return;
    }
    const next = h("button", { type: "button", class: "plain more", onclick: () => this.show(devices, page.nextAfter, start) }, "Show more");
    this.list.replaceChildren(
      table(
        "Devices",
        [["Name", "value"], ["State", ""], ["Profile", "spare"], ["Credential", ""], ["Added", "spare"]],
        devices.map((device) => [deviceLink(device.name), deviceState(device.active ?? device.activity?.active), device.profile, kinds[device.credentialsType] ?? device.credentialsType, when(device.createdMs)]),
      ),
      more ? next : "",
    );
  }
}

/** A table of sessions, each with a button that ends it. */
export function sessionTable(sessions, ended) {
  const who = (session) => {
    if (session.device !== undefined) return deviceLink(session.device);
    const text = { anonymous: "token in each request", certificate: "unknown certificate", pre_shared_key: "pre-shared key" };
    return h("span", { class: "muted" }, text[session.identity] ?? session.identity);
  };
  const end = (session) => async (event) => {
    event.target.disabled = true;
    await askIfThere(`/api/sessions/${encodeURIComponent(session.id)}`, { method: "DELETE" });
    await ended();
  };
  return table(
    "DTLS sessions",
    [["Peer", ""], ["Device", "value"], ["Cipher suite", "spare"], ["Connection id", "spare"], ["Shard", "number spare"], ["Age", "number spare"], ["Idle", "number"], ["", "number"]],
    sessions.map((session) => [
      h("code", {}, session.peer),
      who(session),
      h("span", { class: "small" }, session.suite.replace(/^TLS_/, "").replaceAll("_", " ")),
      session.connectionId === "" ? h("span", { class: "muted" }, "none") : h("code", {}, session.connectionId),
      String(session.shard),
      age(session.ageS),
      age(session.idleS),
      h("button", { type: "button", class: "link", "aria-label": `Close the session of ${session.peer}`, onclick: end(session) }, "Close"),
    ]),
  );
}

function age(value) {
  if (value < 60) return `${value} s`;
  if (value < 3600) return `${Math.floor(value / 60)} min`;
  return value < 86400 ? `${Math.floor(value / 3600)} h` : `${Math.floor(value / 86400)} d`;
}

/** The live DTLS sessions of all shards. */
export class Sessions {
  title = "Sessions";

  constructor() {
    this.list = h("div", { "aria-live": "polite" });
    const again = h("button", { type: "button", class: "plain", onclick: () => this.load() }, "Ask again");
    this.element = h(
      "div",
      {},
      h("div", { class: "title" }, h("h1", {}, "DTLS sessions"), again),
      h("div", { class: "grid" }, h("section", { class: "card wide" }, this.list)),
    );
  }

  load() {
    return this.show([], undefined);
  }

  async show(before, after) {
    const place = after === undefined ? "" : `&after=${after}`;
    const page = await ask(`/api/sessions?limit=100${place}`);
    const sessions = [...before, ...page.sessions];
    if (sessions.length === 0) {
      this.list.replaceChildren(h("p", { class: "empty" }, "No device has a DTLS session now."));
      return;
    }
    const next = h("button", { type: "button", class: "plain more", onclick: () => this.show(sessions, page.nextAfter) }, "Show more");
    this.list.replaceChildren(sessionTable(sessions, () => this.load()), page.nextAfter === undefined ? "" : next);
  }
}
