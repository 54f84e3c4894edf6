"use strict";
// The script of the review. It writes values into the page as text, never as markup.
(() => {
  const review = JSON.parse(document.getElementById("data-review").textContent);
  const nameOf = new Map(review.classes.map(({ id, name }) => [id, name]));
  const make = (tag, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };
  const button = (label, action, properties = {}) => {
    const made = make("button", { type: "button", textContent: label, ...properties });
    made.addEventListener("click", action);
    return made;
  };
  const count = (number, what) => `${number.toLocaleString("en")} ${what}${number === 1 ? "" : "s"}`;

  // --- unsaved changes by text id, kept by the browser for this tab ---------------------------------------------------
  const place = `dallme-review-${review.set}`;
  let kept = true;
  const remember = (name, value) => {
    try { // the browser may store nothing, or too little
      if (value === undefined) return sessionStorage.getItem(name);
      if (value === null) sessionStorage.removeItem(name);
      else sessionStorage.setItem(name, value);
      kept = true;
    } catch { kept = false; }
    return null;
  };
  const drafts = new Map(JSON.parse(remember(place) ?? "[]"));
  const FIELDS = ["text", "label", "accept", "drop"];
  // A text area has one kind of line end only.
  const typed = (text) => text.replaceAll("\r\n", "\n").replaceAll("\r", "\n");
  const items = [...document.querySelectorAll(".card")].map((card, at) => {
    const shown = card.querySelector(".text");
    return { card, shown, ...review.texts[at], number: at, text: typed(shown.textContent), parts: {} };
  });
  const byId = new Map(items.map((item) => [item.id, item]));
  const draftOf = (item) => drafts.get(item.id) ?? {};
  const isStale = (item) => drafts.has(item.id) && draftOf(item).seen !== item.seen;
  const lost = () => [...drafts].filter(([id]) => !byId.has(id));
  const changed = () => items.filter(({ id }) => drafts.has(id));
  const isAccepted = (item) => {
    const { accept, text, label } = draftOf(item);
    return accept ?? (item.accepted && text === undefined && label === undefined);
  };
  const keep = () => {
    remember(place, drafts.size ? JSON.stringify([...drafts]) : null);
    showBar();
  };

  /** Records the decisions on a text; an unchanged value is no decision. */
  const decide = (item, change) => {
    const draft = { seen: item.seen, version: review.version, number: item.number, ...drafts.get(item.id), ...change };
    if (draft.text === item.text) delete draft.text;
    if (draft.label === item.label) delete draft.label;
    if (!draft.drop) delete draft.drop;
    const touched = draft.text !== undefined || draft.label !== undefined;
    if (draft.accept === (item.accepted && !touched)) delete draft.accept;
    if (FIELDS.some((field) => draft[field] !== undefined) || draft.seen !== item.seen) drafts.set(item.id, draft);
    else drafts.delete(item.id);
    show(item);
    keep();
  };
  const forget = (item) => {
    drafts.delete(item.id);
    item.editing = false;
    show(item);
    keep();
  };

  // --- a card -------------------------------------------------------------------------------------------------------
  const marks = (item) => {
    const { text, label, accept, drop } = draftOf(item);
    if (drop) return ["dropped"];
    return [
      text !== undefined && "edited", label !== undefined && `class ${nameOf.get(label)}`,
      accept === true && "accepted", accept === false && "no longer accepted",
    ].filter(Boolean);
  };
  const openEditor = (item) => {
    const area = make("textarea", { autocomplete: "off", maxLength: review.limit, dir: "auto" });
    area.setAttribute("aria-label", `Text ${item.number}, edited`);
    area.addEventListener("input", () => decide(item, { text: area.value }));
    area.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      item.editing = draftOf(item).text !== undefined;
      show(item);
      item.parts.edit.focus();
    });
    item.shown.after(area);
    return area;
  };
  const openStale = (item) => {
    const note = make("p", { className: "warns" });
    note.setAttribute("role", "alert");
    const mine = make("div", { className: "mine" }, note,
      button("Keep mine", () => { decide(item, { seen: item.seen, version: review.version }); item.parts.edit.focus(); }),
      button("Take theirs", () => { forget(item); item.parts.edit.focus(); }));
    item.shown.after(mine);
    return mine;
  };
  const show = (item) => {
    const { card, parts, shown } = item;
    const draft = draftOf(item);
    const [stale, edits] = [isStale(item), item.editing || draft.text !== undefined];
    if (edits && !parts.area) parts.area = openEditor(item);
    if (!edits) { parts.area?.remove(); parts.area = null; }
    if (parts.area && document.activeElement !== parts.area) parts.area.value = draft.text ?? item.text;
    if (stale && !parts.stale) parts.stale = openStale(item);
    if (!stale) { parts.stale?.remove(); parts.stale = null; }
    if (stale) {
      parts.stale.firstChild.textContent = `Version ${review.version} has changed this text since you saw it in version `
        + `${draft.version}. Above it stands as it is now. Yours: ${marks(item).join(", ")}.`;
    }
    shown.hidden = edits && !stale;
    card.classList.toggle("changed", drafts.has(item.id));
    card.classList.toggle("dropped", Boolean(draft.drop));
    const saved = [item.edited && "edited by hand", item.accepted && "accepted"].filter(Boolean);
    parts.marks.textContent = drafts.has(item.id) ? `${marks(item).join(", ")} · not saved` : saved.join(", ");
    parts.accept.setAttribute("aria-pressed", String(isAccepted(item) && !draft.drop));
    parts.accept.disabled = parts.edit.disabled = parts.label.disabled = Boolean(draft.drop);
    parts.drop.setAttribute("aria-pressed", String(Boolean(draft.drop)));
    parts.edit.setAttribute("aria-expanded", String(edits));
    parts.label.value = String(draft.label ?? item.label);
    parts.undo.hidden = !drafts.has(item.id);
  };
  const edit = (item) => {
    item.editing = true;
    show(item);
    item.parts.area.focus();
  };
  const build = (item) => {
    const { card, parts } = item;
    parts.marks = make("span", { className: "review-marks" });
    card.querySelector("header").append(parts.marks);
    parts.accept = button("Accept", () => decide(item, { accept: !isAccepted(item) }), { title: "Accept (a)" });
    parts.edit = button("Edit", () => edit(item), { title: "Edit (e)" });
    parts.drop = button("Drop", () => decide(item, { drop: !draftOf(item).drop }), { title: "Drop (d)" });
    parts.undo = button("Undo", () => { forget(item); parts.edit.focus(); }, { title: "Undo unsaved changes" });
    parts.label = make("select", { autocomplete: "off" }, ...review.classes.map(({ id, name }) => make("option", { value: id }, name)));
    parts.label.addEventListener("change", () => decide(item, { label: Number(parts.label.value) }));
    const label = make("label", {}, "Class", parts.label);
    card.querySelector(".actions").prepend(parts.accept, parts.edit, label, parts.drop, parts.undo);
    show(item);
  };

  // --- the bar: progress of the review, and saving ----------------------------------------------------------------------
  const state = make("p", { className: "state" });
  const said = make("p", { className: "said" });
  said.setAttribute("role", "status");
  let leaving = false;
  const reload = () => {
    leaving = true;
    location.reload();
  };
  const say = (message, warns = true) => {
    said.textContent = message;
    said.classList.toggle("warns", warns && message !== "");
  };
  const goOn = button("Continue with the newest version", reload, { hidden: true });
  const saving = button("Save", () => save(), { className: "save", title: "Save a new version (Ctrl+S)" });
  const discard = button("Undo all", () => {
    if (!confirm(`Undo all unsaved changes (${count(changed().length, "text")})?`)) return;
    changed().forEach(forget);
    say("");
  });
  const showBar = () => {
    const [number, accepted] = [changed().length, items.filter((item) => isAccepted(item) && !draftOf(item).drop).length];
    const unsaved = number ? `${count(number, "text")} changed and not saved` : "all saved";
    state.textContent = `Version ${review.version} · ${accepted} of ${count(items.length, "text")} accepted · ${unsaved}`
      + (kept ? "" : " · the browser cannot keep more over a reload: save now");
    saving.disabled = discard.disabled = number === 0;
  };
  const offerNewest = (message) => {
    say(message);
    goOn.hidden = false;
  };
  const goTo = (item) => {
    item.card.hidden = false; // a filter may hide it
    item.card.scrollIntoView({ block: "center" });
    (item.parts.area ?? item.card).focus({ preventScroll: true });
  };
  const toSend = ({ id }) => {
    const { seen, text, label, accept, drop } = drafts.get(id);
    return drop ? { id, seen, drop } : { id, seen, text, label, accept };
  };
  const send = async (changes) => {
    const headers = { "Content-Type": "application/json", "X-Dallme-Secret": review.secret };
    const body = JSON.stringify({ version: review.version, digest: review.digest, changes });
    const response = await fetch("/save", { method: "POST", headers, body });
    return { status: response.status, ...await response.json() };
  };
  const save = async () => {
    const stale = items.find(isStale);
    const sent = changed();
    if (!sent.length || saving.disabled) return;
    if (stale) {
      say("Some texts have changed since you saw them: choose on each whether to keep yours.");
      goTo(stale);
      return;
    }
    const main = document.querySelector("main");
    [main.inert, saving.disabled] = [true, true];
    const answer = await send(sent.map(toSend)).catch(() => ({
      status: 0, error: "The server does not answer: is dallme review still running? Your changes stay in this tab.",
    }));
    if (answer.status === 201) {
      sent.forEach(({ id }) => drafts.delete(id));
      keep();
      const notes = [`Saved version ${answer.version} in ${answer.folder}.`, ...answer.notes.map((note) => `Note: ${note}.`)];
      remember(`${place}-said`, notes.join(" "));
      say("Saved. A page with a map takes some seconds to draw again.", false);
      reload();
      return;
    }
    main.inert = false;
    showBar();
    if (answer.status === 409 || answer.status === 401 || answer.status === 403) {
      offerNewest(answer.error);
    } else {
      say(answer.error);
      if (byId.has(answer.text)) goTo(byId.get(answer.text));
    }
  };

  // --- unsaved changes of dropped texts -----------------------------------------------------------------------------
  const showLost = () => {
    document.querySelectorAll(".lost").forEach((box) => box.remove());
    lost().forEach(([id, draft]) => {
      const words = draft.text === undefined ? [] : [make("pre", { tabIndex: 0, textContent: draft.text })];
      const away = button("Throw away", () => { drafts.delete(id); keep(); showLost(); });
      const copy = button("Copy", () => navigator.clipboard?.writeText(draft.text));
      const box = make("section", { className: "lost" },
        make("h3", { textContent: `Text ${draft.number} of version ${draft.version} is no longer in the set` }),
        make("p", { className: "note", textContent: draft.text === undefined ? "You had not edited it." : "Your text:" }),
        ...words, make("div", { className: "buttons" }, ...(words.length ? [copy] : []), away));
      document.querySelector(".cards").before(box);
    });
  };

  // --- keys ---------------------------------------------------------------------------------------------------------
  const step = (from, by) => {
    const seen = items.filter(({ card }) => !card.hidden);
    const next = seen[from ? seen.indexOf(from) + by : 0];
    next?.card.scrollIntoView({ block: "nearest" });
    next?.card.focus({ preventScroll: true });
  };
  document.addEventListener("keydown", (event) => {
    const { key, target } = event;
    if ((event.ctrlKey || event.metaKey) && !event.altKey && key.toLowerCase() === "s") {
      event.preventDefault();
      save();
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey || target.closest("input, textarea, select") || !target.closest("#texts")) return;
    const item = items.find(({ card }) => card.contains(target));
    const act = { n: () => step(item, 1), p: () => step(item, -1) };
    if (item) Object.assign(act, { a: () => item.parts.accept.click(), e: () => item.parts.edit.click(), d: () => item.parts.drop.click() });
    if (!Object.hasOwn(act, key)) return;
    event.preventDefault();
    act[key]();
  });
  addEventListener("beforeunload", (event) => {
    if (drafts.size && !leaving) event.preventDefault(); // closing the tab discards them
  });
  document.addEventListener("visibilitychange", async () => {
    if (document.visibilityState !== "visible") return;
    const newest = await fetch("/version").then((answer) => (answer.ok ? answer.json() : null)).catch(() => null);
    if (!newest || newest.digest === review.digest && newest.version === review.version) return;
    offerNewest(`Version ${newest.version} was saved in the meantime. Your changes stay in this tab.`);
  });

  const bar = make("section", { className: "review-bar" }, state, said, goOn, discard, saving);
  bar.setAttribute("aria-label", "Review");
  document.querySelector("main").after(bar);
  document.querySelector("#count").after(make("p", {
    className: "note",
    textContent: "Keys, while a text has the focus: n next, p previous, a accept, e edit, d drop; Ctrl+S saves. "
      + "Search, copy and download take the texts as they were saved.",
  }));
  items.forEach(build);
  showBar();
  showLost();
  say(remember(`${place}-said`) ?? "", false);
  remember(`${place}-said`, null);
  document.documentElement.dataset.reviewing = String(review.version); // visible in the developer tools of the browser
})();
