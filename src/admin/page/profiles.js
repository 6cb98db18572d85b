// What devices of one kind have in common, and the packages that they are to have.

import { ask, bytes, h, swap, table, when } from "./parts.js";

const kinds = { FIRMWARE: "firmware", SOFTWARE: "software" };
const strategies = {
  DISABLED: "",
  ALLOW_CREATE_NEW_DEVICES: "devices register themselves",
  CHECK_PRE_PROVISIONED_DEVICES: "known devices fetch their credentials",
  X509_CERTIFICATE_CHAIN: "devices register themselves by their certificate chain",
};

/** A package by its number, as people call it. */
export function packageName(packages, number) {
  const found = packages.find(({ id }) => id === number);
  return found === undefined ? `package ${number}` : `${found.title} ${found.version}`;
}

/** How a device saves power, or null when it does not. */
export function powerSaving(settings) {
  const { mode, psmActivityTimer, pagingTransmissionWindow } = settings ?? {};
  if (mode === undefined) return null;
  const window = mode === "PSM" ? psmActivityTimer : mode === "E_DRX" ? pagingTransmissionWindow : undefined;
  return window ? `${mode}, awake for ${window} ms` : mode;
}

/** What a profile sets, in words. */
function summary(settings, packages) {
  const { deviceType, payloadType, rateLimits, provisioning, description } = settings;
  const limits = [["messages", rateLimits.messages], ["telemetry messages", rateLimits.telemetryMessages], ["data points", rateLimits.telemetryDataPoints]];
  const parts = [
    description,
    deviceType === "DEFAULT" ? "" : deviceType,
    payloadType === "JSON" ? "" : payloadType,
    powerSaving(settings.powerSaving),
    ...limits.map(([what, limit]) => (limit ? `${what} ${limit}` : "")),
    strategies[provisioning.strategy] ?? provisioning.strategy,
    settings.firmware === undefined ? "" : `firmware ${packageName(packages, settings.firmware)}`,
    settings.software === undefined ? "" : `software ${packageName(packages, settings.software)}`,
  ];
  return parts.filter(Boolean).join("; ") || "as the built-in default";
}

export class Profiles {
  title = "Profiles";

  constructor() {
    this.profiles = h("div");
    this.packages = h("div");
    const wide = (title, content) => h("section", { class: "card wide" }, h("header", {}, h("h2", {}, title)), content);
    this.element = h(
      "div",
      {},
      h("div", { class: "title" }, h("h1", {}, "Profiles and packages")),
      h("div", { class: "grid" }, wide("Device profiles", this.profiles), wide("Firmware and software", this.packages)),
    );
  }

  load() {
    return this.refresh();
  }

  /** Every few seconds, while the page is open. */
  async refresh() {
    const [{ profiles }, { packages }] = await Promise.all([ask("/api/profiles"), ask("/api/ota")]);
    const rows = profiles.map(({ name, settings }) => [name, summary(settings, packages)]);
    swap(this.profiles, table("Device profiles", [["Name", "value"], ["What it sets", "value"]], rows));
    if (packages.length === 0) {
      swap(this.packages, h("p", { class: "empty" }, "No packages yet: tidegate ota add FILE adds one."));
      return;
    }
    const columns = [["Number", ""], ["Package", "value"], ["Type", ""], ["Size", "number"], ["Added", "number spare"]];
    const line = ({ id, title, version, type, url, size, createdMs }) => {
      const length = url === undefined ? bytes(size) : h("span", { class: "muted", title: url }, "elsewhere");
      return [String(id), `${title} ${version}`, kinds[type] ?? type, length, when(createdMs)];
    };
    swap(this.packages, table("Packages", columns, packages.map(line)));
  }
}
