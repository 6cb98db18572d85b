// The fleet at a glance, drawn anew each second.

import { Chart, bytes, card, count, h, micros, s, short, swap, table } from "./parts.js";

const MINUTES = 5;
const SAMPLES = MINUTES * 60;
const range = [-SAMPLES + 1, 0];
const ticks = (_, width) => {
  const every = width < 420 ? 2 : 1;
  return Array.from({ length: MINUTES + 1 }, (_, minute) => minute)
    .filter((minute) => minute % every === 0)
    .map((minute) => [Math.max(range[0], -60 * minute), minute === 0 ? "now" : `−${minute} min`]);
};
const name = (x) => (x === 0 ? "now" : `${Math.round(-x)} s ago`);

function chart(label, format, extra = {}) {
  return new Chart({ label, format, ticks, name, zero: true, ...extra });
}

const sum = (values) => values.reduce((total, value) => total + value, 0);

export class Overview {
  title = "Overview";

  constructor() {
    this.requests = chart("Requests per second over the last five minutes", short, { area: true, whole: true, least: 4 });
    this.latency = chart("Time of requests over the last five minutes", micros, { least: 100 });
    this.handshakes = chart("Handshakes per second over the last five minutes", short, { area: true, whole: true, least: 4 });
    this.sessions = chart("DTLS sessions over the last five minutes", short, { area: true, whole: true, least: 4 });
    this.tiles = h("dl", { class: "tiles" });
    this.problem = h("p", { class: "card notice", role: "alert", hidden: true });
    this.shards = h("div");
    this.errors = h("div");
    this.store = h("div");
    this.totals = [];
    this.element = h(
      "div",
      {},
      h("h1", { class: "skip" }, "Overview"),
      this.problem,
      this.tiles,
      h(
        "div",
        { class: "grid" },
        card("Requests per second", ["all", "refused", "discarded input"], this.requests.element),
        card("Time to answer", ["p50", "p99"], this.latency.element),
        card("Handshakes per second", ["all", "resumed"], this.handshakes.element),
        card("DTLS sessions", [], this.sessions.element),
        card("Shards", [], this.shards),
        card("Store", [], this.store),
        h("section", { class: "card wide" }, h("header", {}, h("h2", {}, "Errors by reason")), this.errors),
      ),
    );
  }

  /** Takes the server's state and the samples of the last minutes, oldest first. */
  update(status, samples) {
    const points = (of) => samples.map((sample, at) => [at - samples.length + 1, of(sample)]);
    const time = (which) => points(({ requestUs }) => (requestUs === null ? null : (requestUs[which] ?? 67e6)));
    this.requests.show(
      [
        { name: "all", points: points((sample) => sample.requests) },
        { name: "refused", points: points((sample) => sample.refusals) },
        { name: "discarded", points: points((sample) => sample.drops) },
      ],
      range,
    );
    this.latency.show([{ name: "p50", points: time("p50") }, { name: "p99", points: time("p99") }], range);
    this.handshakes.show(
      [
        { name: "all", points: points((sample) => sample.handshakes) },
        { name: "resumed", points: points((sample) => sample.resumptions) },
      ],
      range,
    );
    this.sessions.show([{ name: "", points: points((sample) => sum(sample.sessions)) }], range);
    this.problem.hidden = status.ready;
    this.problem.textContent = status.problem ?? "";
    this.showTiles(status, samples.at(-1));
    this.showShards(status.shards);
    this.showErrors(status.errors);
    this.showStore(status.store, samples.at(-1));
  }

  showTiles(status, latest) {
    const tile = (title, value, unit, note) =>
      h(
        "div",
        { class: "card tile" },
        h("dt", {}, title),
        h("dd", {}, value, unit ? h("small", {}, unit) : null, note ? h("span", { class: "note" }, note) : null),
      );
    const rate = (value) => short(value === undefined ? 0 : value < 10 ? Math.round(value * 10) / 10 : Math.round(value));
    const times = latest?.requestUs ?? status.latency.request;
    const time = (which) => (times === null ? ["–", ""] : micros(times[which]).split(" "));
    const since = latest?.requestUs ? "last second" : times ? "since start" : "no request yet";
    this.tiles.replaceChildren(
      tile("Devices", short(status.devices), "", "registered"),
      tile("Sessions", short(sum(status.shards.map((shard) => shard.sessions))), "", `on ${status.shards.length} shard${status.shards.length === 1 ? "" : "s"}`),
      tile("Requests", rate(latest?.requests), "/s", `${count(status.requests)} in all`),
      tile("Handshakes", rate(latest?.handshakes), "/s", `${count(status.handshakes)} in all`),
      tile("p50", ...time("p50"), since),
      tile("p99", ...time("p99"), since),
      tile("Stored", rate(latest?.stored), "/s", `${short(status.store.records)} in all`),
      tile("Queue", short(sum(status.shards.map((shard) => shard.queue))), "", "requests waiting"),
    );
  }

  showShards(shards) {
    const most = Math.max(1, ...shards.map((shard) => shard.sessions));
    const bar = (part) => s("svg", { class: "bar", "aria-hidden": "true", viewBox: "0 0 100 6", preserveAspectRatio: "none" }, s("rect", { width: 100 * part, height: 6 }));
    const number = "number";
    swap(
      this.shards,
      table(
        "What each shard holds",
        [["Shard", ""], ["Sessions", number], ["", "spare"], ["Handshakes", number], ["Plain peers", "number spare"], ["Requests", number], ["Queue", number]],
        shards.map((shard, index) => [
          String(index),
          count(shard.sessions),
          bar(shard.sessions / most),
          count(shard.handshakes),
          count(shard.plainPeers),
          short(shard.requests),
          count(shard.queue),
        ]),
      ),
    );
  }

  showErrors(errors) {
    const now = Date.now();
    const totals = new Map(errors.map(({ kind, reason, count: total }) => [`${kind} ${reason}`, total]));
    this.totals.push([now, totals]);
    while (this.totals.length > 1 && now - this.totals[1][0] > 60_000) this.totals.shift();
    const [start, before] = this.totals[0];
    const lately = ({ kind, reason, count: total }) => total - (before.get(`${kind} ${reason}`) ?? 0);
    if (errors.length === 0) {
      swap(this.errors, h("p", { class: "empty" }, "Nothing has gone wrong since the start."));
      return;
    }
    const sorted = [...errors].sort((a, b) => lately(b) - lately(a) || b.count - a.count);
    const span = Math.max(1, Math.round((now - start) / 1000));
    swap(
      this.errors,
      table(
        "Errors by reason",
        [["Reason", ""], ["What", "spare"], [span < 60 ? `Last ${span} s` : "Last minute", "number"], ["Since the start", "number"]],
        sorted.map((error) => [
          error.reason.replaceAll("_", " "),
          h("span", { class: "muted" }, error.kind),
          h("span", { class: lately(error) > 0 ? "bad" : "muted" }, count(lately(error))),
          count(error.count),
        ]),
      ),
    );
  }

  showStore(store, latest) {
    const pair = (title, ...value) => [h("dt", {}, title), h("dd", { class: "number" }, ...value)];
    swap(
      this.store,
      h(
        "dl",
        { class: "pairs" },
        pair("State", store.up ? h("span", { class: "good" }, "takes uploads") : h("span", { class: "bad" }, "has failed")),
        pair("Uploads", `${short(latest?.stored ?? 0)} /s, ${count(store.records)} since the start (${bytes(store.recordBytes)})`),
        pair("Group commits", store.commits > 0 ? `${count(store.commits)}, of ${short(store.records / store.commits)} uploads on average` : "none yet"),
        pair("Not durable yet", bytes(store.pendingBytes)),
        pair("Not in tables yet", bytes(store.headBytes)),
        pair("Refused", h("span", { class: store.overloads > 0 ? "bad" : "" }, `${count(store.overloads)} batches as too much waited`)),
        pair("Failed flushes", h("span", { class: store.flushFailures > 0 ? "bad" : "" }, count(store.flushFailures))),
      ),
    );
  }
}
