// What both pages share: short names, and light and dark.
"use strict";
const $ = (id) => document.getElementById(id);
const make = (tag, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};

// Light and dark: the system's choice until the switch is used; remembered where the browser allows it.
(() => {
  const key = "refusion-report-theme";
  const system = matchMedia("(prefers-color-scheme: dark)");
  const current = () => document.documentElement.dataset.theme || (system.matches ? "dark" : "light");
  try {
    const kept = localStorage.getItem(key);
    if (kept === "light" || kept === "dark") document.documentElement.dataset.theme = kept;
  } catch { /* a browser may refuse storage to pages opened from files */ }
  document.addEventListener("DOMContentLoaded", () => {
    const button = $("theme");
    const show = () => {
      const dark = current() === "dark";
      button.setAttribute("aria-pressed", String(dark));
      button.title = dark ? "Switch to light" : "Switch to dark";
    };
    button.addEventListener("click", () => {
      const next = current() === "dark" ? "light" : "dark";
      document.documentElement.dataset.theme = next;
      try { localStorage.setItem(key, next); } catch { /* as above */ }
      show();
    });
    system.addEventListener("change", show);
    show();
  });
})();
