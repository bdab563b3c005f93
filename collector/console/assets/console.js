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
  for (const element of document.querySelectorAll("time[datetime]")) {
    const moment = new Date(element.getAttribute("datetime"));
    const seconds = (Date.now() - moment.getTime()) / 1000;
    if (seconds < -60) continue;
    element.textContent = age(seconds);
    element.title = moment.toLocaleString();
  }
}

// A page that shows the present reloads itself while it is looked at and nobody is busy in it.
function keepFresh() {
  const seconds = Number(document.body.dataset.refresh || 0);
  if (!seconds) return;
  setInterval(() => {
    const busy = document.activeElement && document.activeElement.matches("input, select, summary");
    const selecting = String(window.getSelection()) !== "";
    if (document.visibilityState === "visible" && !busy && !selecting) location.reload();
  }, seconds * 1000);
}

for (const select of document.querySelectorAll("select[data-submit]")) {
  select.addEventListener("change", () => select.form.requestSubmit());
}
// The bar's keys: the state is the address, so a key is a link.
function go(name, value) {
  const address = new URL(location.href);
  for (const old of ["from", "to", "after"]) address.searchParams.delete(old);
  address.searchParams.set(name, value);
  location.assign(address);
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select, textarea")) return;
  const ranges = { t: "today", w: "7", m: "28" };
  const form = document.querySelector("form.filters select[name=range]");
  if (event.key in ranges && form) go("range", ranges[event.key]);
  if (event.key === "x" && form) go("compare", document.querySelector("select[name=compare]").value === "none" ? "previous" : "none");
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
