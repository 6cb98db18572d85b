// Which page is shown, the login, and the state that all pages show.

import { Refused, ask, h, keepToken, token } from "./parts.js";
import { Device } from "./device.js";
import { Devices, Sessions } from "./devices.js";
import { Overview } from "./overview.js";
import { Profiles } from "./profiles.js";

const PERIOD_MS = 1000;
const REFRESH_MS = 5000;
const SAMPLES = 300;

const main = document.getElementById("main");
const state = document.getElementById("state");
const logout = document.getElementById("logout");

const overview = new Overview();
let samples = [];
let shown = null;

/** A link with the token behind the # logs in; the token leaves the address at once. */
function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given === null || location.hash.startsWith("#/")) return;
  keepToken(given);
  history.replaceState(null, "", "#/");
}

function route() {
  const [page = "", ...rest] = location.hash.replace(/^#\/?/, "").split("/");
  if (page === "devices" && rest.length > 0 && rest[0] !== "") return ["devices", () => new Device(decodeURIComponent(rest.join("/")))];
  if (page === "devices") return ["devices", () => new Devices()];
  if (page === "profiles") return ["profiles", () => new Profiles()];
  if (page === "sessions") return ["sessions", () => new Sessions()];
  return ["overview", () => overview];
}

async function show() {
  takeToken();
  const [name, make] = route();
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.page === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  logout.hidden = token() === null;
  if (name !== "overview" && token() === null) return login("");
  try {
    const page = make();
    document.title = page.title === "Overview" ? "Tidegate" : `${page.title} – Tidegate`;
    shown = page;
    main.replaceChildren(page.element);
    await page.load?.();
  } catch (error) {
    fail(error);
  }
}

function fail(error) {
  if (error instanceof Refused && error.status === 401) {
    const given = token() !== null;
    keepToken(null);
    login(given ? "That is not the token of this server." : "");
    return;
  }
  shown = null;
  main.replaceChildren(
    h("section", { class: "card notice", role: "alert" }, h("h2", {}, "That did not work"), h("p", {}, error.message)),
  );
}

function login(problem) {
  shown = null;
  logout.hidden = true;
  document.title = "Log in – Tidegate";
  const input = h("input", { type: "password", name: "token", required: true, autocomplete: "current-password", spellcheck: "false" });
  const enter = (event) => {
    event.preventDefault();
    keepToken(input.value.trim());
    show();
  };
  main.replaceChildren(
    h(
      "section",
      { class: "card login" },
      h("h1", {}, "Log in"),
      h("p", { class: "muted" }, "Showing devices and their data needs the token of this server."),
      h("form", { onsubmit: enter }, h("label", {}, "Token", input), h("button", {}, "Log in")),
      problem === "" ? null : h("p", { class: "bad", role: "alert" }, problem),
      h("p", { class: "muted small" }, "It is in the file ", h("code", {}, "admin-token"), " of the server's data directory. This tab keeps it until it is closed."),
    ),
  );
  input.focus();
}

function tell(kind, text) {
  state.className = `pill ${kind}`;
  const line = document.getElementById("state-text");
  // Read out only when it changes.
  if (line.textContent !== text) line.textContent = text;
}

async function poll() {
  try {
    const after = samples.at(-1)?.sequence ?? 0;
    let status = await ask(`/status.json?after=${after}`);
    if (status.sequence < after) {
      // Another server, or the same started anew.
      samples = [];
      status = await ask("/status.json");
    }
    samples.push(...status.samples);
    samples.splice(0, samples.length - SAMPLES);
    document.getElementById("version").textContent = `Tidegate ${status.version}`;
    tell(status.ready ? "good" : "bad", status.ready ? "serving" : "not serving");
    overview.update(status, samples);
  } catch {
    tell("bad", "no answer");
  }
  setTimeout(poll, PERIOD_MS);
}

async function refresh() {
  try {
    if (!document.hidden) await shown?.refresh?.();
  } catch (error) {
    if (error instanceof Refused) fail(error);
  }
  setTimeout(refresh, REFRESH_MS);
}

logout.addEventListener("click", () => {
  keepToken(null);
  location.hash = "#/";
  show();
});
addEventListener("hashchange", async () => {
  await show();
  main.focus({ preventScroll: true });
  scrollTo(0, 0);
});
show();
poll();
refresh();
