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
freshenTimes();
setInterval(freshenTimes, 10000);
keepFresh();
