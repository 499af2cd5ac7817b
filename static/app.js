// What pages do beyond links and forms: theme, copying, menus, and parts that refresh themselves.
// Loaded in the head without `defer`, so that a chosen theme holds before the first paint.
"use strict";

(() => {
  const root = document.documentElement;

  // --- theme: system, light or dark ------------------------------------------------------------

  const THEMES = ["system", "light", "dark"];

  function storedTheme() {
    try {
      const theme = localStorage.getItem("theme");
      return THEMES.includes(theme) ? theme : "system";
    } catch {
      return "system"; // storage may be forbidden
    }
  }

  function showTheme(theme) {
    if (theme === "system") delete root.dataset.theme;
    else root.dataset.theme = theme;
    for (const button of document.querySelectorAll("[data-theme-toggle]")) {
      button.querySelector("[data-theme-name]").textContent = theme;
    }
  }

  function nextTheme() {
    const theme = THEMES[(THEMES.indexOf(storedTheme()) + 1) % THEMES.length];
    try {
      localStorage.setItem("theme", theme);
    } catch {
      // then it holds for this page
    }
    showTheme(theme);
    announce(`Theme: ${theme}`);
  }

  // --- copying ---------------------------------------------------------------------------------

  async function copy(button) {
    const source = button.dataset.copyFrom;
    const text = source ? document.querySelector(source).textContent : button.dataset.copy;
    const copied = await putOnClipboard(text);
    button.dataset.copied = copied ? "yes" : "no";
    announce(copied ? "Copied" : "Could not copy");
    setTimeout(() => delete button.dataset.copied, 1500);
  }

  async function putOnClipboard(text) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      // The clipboard exists only on https and localhost; this way works elsewhere too.
      const area = Object.assign(document.createElement("textarea"), { value: text });
      document.body.append(area);
      area.select();
      const copied = document.execCommand("copy");
      area.remove();
      return copied;
    }
  }

  function announce(text) {
    const announcer = document.getElementById("announcer");
    if (announcer) announcer.textContent = text;
  }

  // --- parts that refresh themselves -----------------------------------------------------------
  // <div data-refresh="URL" data-every="1000" data-live> is replaced by what the URL answers, the
  // same element anew, until it comes without data-live. data-announce is then read out.

  const SLOWEST = 30_000;

  async function keepFresh(element) {
    let wait = 0;
    let last = null;
    while (element.isConnected && "live" in element.dataset) {
      const every = Number(element.dataset.every) || 1000;
      await pause(wait || every);
      await untilSeen();
      try {
        const html = await load(element.dataset.refresh);
        wait = 0;
        delete element.dataset.stale;
        if (html === last || isInUse(element)) continue;
        element = swap(element, html);
        last = html;
      } catch {
        wait = Math.min((wait || every) * 2, SLOWEST);
        element.dataset.stale = "";
      }
    }
    if (element.dataset.announce) announce(element.dataset.announce);
  }

  const pause = (milliseconds) => new Promise((resume) => setTimeout(resume, milliseconds));

  async function untilSeen() {
    while (document.hidden) {
      await new Promise((resume) =>
        document.addEventListener("visibilitychange", resume, { once: true }),
      );
    }
  }

  async function load(url) {
    const response = await fetch(url, {
      headers: { "X-Requested-With": "fetch" },
      signal: AbortSignal.timeout(10_000),
    });
    if (response.redirected) location.reload(); // signed out meanwhile
    if (!response.ok || response.redirected) throw new Error(response.statusText);
    return response.text();
  }

  // Nothing is taken from under somebody who is marking text or filling in a field.
  function isInUse(element) {
    const selection = getSelection();
    const isMarked = !selection.isCollapsed && selection.containsNode(element, true);
    return isMarked || element.querySelector("input:focus, select:focus, textarea:focus") !== null;
  }

  function swap(old, html) {
    const template = document.createElement("template");
    template.innerHTML = html;
    const fresh = template.content.firstElementChild;
    const focused = old.contains(document.activeElement) ? document.activeElement : null;
    const places = [...old.querySelectorAll(".table-box")].map((box) => box.scrollLeft);
    const changed = [...old.querySelectorAll("details[id]")];
    for (const before of changed) {
      const after = template.content.getElementById(before.id);
      if (after) after.open = before.open;
    }
    old.replaceWith(fresh);
    fresh.querySelectorAll(".table-box").forEach((box, i) => (box.scrollLeft = places[i] ?? 0));
    if (focused) sameIn(fresh, focused)?.focus({ preventScroll: true });
    // All from the same start, so that a swap does not make them jump.
    for (const animation of fresh.getAnimations({ subtree: true })) animation.startTime = 0;
    return fresh;
  }

  function sameIn(fresh, focused) {
    if (focused.id) return document.getElementById(focused.id);
    const href = focused.getAttribute("href");
    return href && fresh.querySelector(`a[href="${CSS.escape(href)}"]`);
  }

  // --- wiring ----------------------------------------------------------------------------------

  showTheme(storedTheme());

  document.addEventListener("DOMContentLoaded", () => {
    showTheme(storedTheme());
    document.querySelectorAll("[data-refresh][data-live]").forEach(keepFresh);
  });

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-theme-toggle], [data-copy], [data-copy-from]");
    if (button && "themeToggle" in button.dataset) nextTheme();
    else if (button) copy(button);
    for (const menu of document.querySelectorAll("details.menu[open]")) {
      if (!menu.contains(event.target)) menu.open = false;
    }
  });

  document.addEventListener("keydown", (event) => {
    const menu = event.key === "Escape" && document.querySelector("details.menu[open]");
    if (!menu) return;
    menu.open = false;
    menu.querySelector("summary").focus();
  });

  // Arrow keys step from result to result, unless something is focused that may need them.
  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    const isFree = event.target === document.body || event.target.id === "content";
    const rel = { ArrowLeft: "prev", ArrowRight: "next" }[event.key];
    const link = isFree && rel && document.querySelector(`[data-arrow-keys] a[rel="${rel}"]`);
    if (link) location.assign(link.href);
  });

  // What is costly is sent once, however often its button is pressed.
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (!form.matches("[data-once]")) return;
    if (form.ariaBusy === "true") event.preventDefault();
    form.ariaBusy = "true";
  });
  window.addEventListener("pageshow", () => {
    for (const form of document.querySelectorAll("[data-once]")) form.ariaBusy = null;
  });

  document.addEventListener("change", (event) => {
    if (event.target.closest("[data-submit-on-change]")) event.target.form.requestSubmit();
  });
})();
