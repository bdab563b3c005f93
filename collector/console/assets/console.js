// Small comforts; every page works without it. No HTML is ever made here: text and attributes only.
"use strict";

const UNITS = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];

function age(seconds) {
  for (const [size, unit] of UNITS) {
    if (seconds >= size) return `${Math.round(seconds / size)} ${unit} ago`;
  }
  return "just now";
}

function freshenTimes() {
  for (const element of document.querySelectorAll("time[datetime]:not([data-fixed])")) {
    const moment = new Date(element.getAttribute("datetime"));
    const seconds = (Date.now() - moment.getTime()) / 1000;
    if (seconds < -60) continue;
    element.textContent = age(seconds);
    element.title = moment.toLocaleString();
  }
}

// A page that shows the present reloads itself while it is looked at and nobody is busy in it: a reload under a
// moving or pressing hand would take the click with it.
const HAND_RESTS_MS = 5000;
let handAt = -HAND_RESTS_MS;
for (const kind of ["pointermove", "pointerdown", "keydown", "wheel"]) {
  addEventListener(kind, () => { handAt = performance.now(); }, { passive: true, capture: true });
}

function mayReload(now) {
  const busy = document.activeElement && document.activeElement.matches("input, select, summary");
  const selecting = String(window.getSelection()) !== "";
  return document.visibilityState === "visible" && !busy && !selecting && now - handAt >= HAND_RESTS_MS;
}

function keepFresh() {
  const due = performance.now() + 1000 * Number(document.body.dataset.refresh || Infinity);
  setInterval(() => {
    const now = performance.now();
    if (now >= due && mayReload(now)) location.reload();
  }, 1000);
}

for (const select of document.querySelectorAll("select[data-submit]")) {
  select.addEventListener("change", () => select.form.requestSubmit());
}
// The bar's keys: the state is the address, so a key is a link.
function go(name, value) {
  const address = new URL(location.href);
  for (const old of ["from", "to", "after", "first"]) address.searchParams.delete(old);
  address.searchParams.set(name, value);
  location.assign(address);
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select, textarea")) return;
  const ranges = { t: "today", w: "7", m: "28" };
  const form = document.querySelector("form.filters select[name=range]");
  if (event.key in ranges && form) go("range", ranges[event.key]);
  if (event.key === "x" && form) go("compare", document.querySelector("select[name=compare]").value === "none" ? "previous" : "none");
  if (event.key === "?") document.getElementById("keys")?.showModal();
  if (event.key === "/") {
    event.preventDefault();
    const find = document.querySelector("[data-find]");
    if (find) find.focus();
    else location.assign("/orders");
  }
}
document.addEventListener("keydown", onKey);
freshenTimes();
setInterval(freshenTimes, 10000);
keepFresh();

// The Live page: rows are made of text alone, as the server makes them.
function liveRow(line) {
  const row = document.createElement("li");
  const time = document.createElement("time");
  const tag = document.createElement("span");
  const whose = document.createElement("span");
  const said = document.createElement(line.address ? "a" : "span");
  time.textContent = line.at;
  time.title = line.day;
  tag.className = "tag " + line.tone;
  tag.textContent = line.kind;
  whose.className = "whose";
  whose.textContent = line.shop;
  said.textContent = line.text;
  if (line.address) said.setAttribute("href", line.address);
  row.append(time, tag, whose, said);
  return row;
}

function follow(list) {
  const most = 200;
  const pause = document.querySelector("[data-pause]");
  const state = document.querySelector("[data-live-state]");
  const empty = document.querySelector("[data-live-empty]");
  const zone = state.textContent;
  let paused = false;
  let waiting = [];
  const show = (lines) => {
    list.prepend(...lines.map(liveRow).reverse());
    while (list.children.length > most) list.lastElementChild.remove();
    empty.hidden = list.children.length > 0;
  };
  const source = new EventSource(list.dataset.live);
  const say = (word) => { state.textContent = `${zone} ${word}`; };
  source.onopen = () => say(paused ? "Paused." : "New ones appear by themselves.");
  source.onerror = () => say(source.readyState === EventSource.CLOSED ? "Not live: load the page again." : "Trying to get through …");
  source.addEventListener("all", (event) => {
    if (paused) return;
    list.replaceChildren();
    document.querySelector("[data-live-cut]")?.remove();
    show(JSON.parse(event.data));
  });
  source.addEventListener("more", (event) => {
    const lines = JSON.parse(event.data);
    if (!paused) return show(lines);
    waiting = [...waiting, ...lines].slice(-most);
    say(`Paused; ${waiting.length} wait.`);
  });
  pause.hidden = false;
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.textContent = paused ? "Go on" : "Pause";
    pause.setAttribute("aria-pressed", String(paused));
    say(paused ? "Paused." : "New ones appear by themselves.");
    if (!paused) show(waiting.splice(0));
  });
  addEventListener("pagehide", () => source.close());
}
const liveList = document.querySelector("[data-live]");
if (liveList) follow(liveList);
