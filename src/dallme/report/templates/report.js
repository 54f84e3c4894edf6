"use strict";
// The page's own script. It writes values into the page as text, never as markup.
(() => {
  const $ = (selector) => document.querySelector(selector);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const read = (name) => JSON.parse(document.getElementById(`data-${name}`)?.textContent ?? "null");
  const shorten = (text, length) => (text.length > length ? `${text.slice(0, length - 1)}…` : text);
  const classes = read("classes");
  const cards = () => all(".card");
  const textOf = (card) => card.querySelector(".text").textContent;
  const classOf = (card) => classes.findIndex(({ name }) => name === card.dataset.label);

  // --- light and dark ---------------------------------------------------------------------------------------------
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const repaint = []; // what has to follow the colours
  const paint = () => repaint.forEach((follow) => follow());
  const remembered = (theme) => {
    try { // a page from disk may have no storage
      if (theme) localStorage.setItem("dallme-theme", theme);
      return localStorage.getItem("dallme-theme");
    } catch { return null; }
  };
  const setTheme = (theme) => {
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
    paint();
  };
  $("#theme").addEventListener("click", () => {
    const now = document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light");
    const next = now === "dark" ? "light" : "dark";
    remembered(next);
    setTheme(next);
  });
  dark.addEventListener("change", paint);
  setTheme(remembered());
  const probe = document.body.appendChild(document.createElement("i"));
  probe.hidden = true;
  const colour = (name) => { // as the browser computes it, for the theme of the moment
    probe.style.color = `var(--${name})`;
    return getComputedStyle(probe).color;
  };

  // --- charts -----------------------------------------------------------------------------------------------------
  const tip = $("#tip");
  const showTip = (event, datum) => {
    const title = document.createElement("strong");
    const name = classes[datum.class].name;
    title.textContent = datum.index === undefined ? `${name} · row ${datum.row}` : `${name} · distilled text ${datum.index}`;
    tip.replaceChildren(title, datum.text);
    tip.hidden = false;
    const { width, height } = tip.getBoundingClientRect();
    const [left, top] = [event.clientX + 16, event.clientY + 16];
    tip.style.left = `${Math.max(8, Math.min(left, innerWidth - width - 8))}px`;
    tip.style.top = `${top + height > innerHeight - 8 ? Math.max(8, event.clientY - height - 16) : top}px`;
  };
  const tooltip = (handler, event, item, value) => {
    if (value === null || value === undefined || value === "" || !item?.datum) tip.hidden = true;
    else showTip(event, item.datum);
  };
  addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });
  // `ast` interprets expressions, since the policy of the page forbids compiling them.
  const draw = async (place, spec, datasets, signals, renderer) => {
    const options = { ast: true, actions: false, defaultStyle: false, renderer, tooltip };
    const { view } = await window.vegaEmbed(place, { ...spec, datasets }, options);
    const follow = () => {
      Object.entries(signals).forEach(([name, colourName]) => view.signal(name, colour(colourName)));
      return view.runAsync();
    };
    repaint.push(follow);
    place.vegaView = view; // for those who look at the page with the browser's tools
    await follow();
    return view;
  };

  const comparison = read("comparison");
  all(".bars").forEach((place, number) => {
    const colours = { ink: "ink", strong: "accent", weak: "weak" };
    const panel = comparison.panels[number];
    if (panel) draw(place, comparison.spec, { bars: panel.bars }, colours, "svg");
  });

  // --- the map and the text that is picked ------------------------------------------------------------------------
  const map = read("map");
  let plane = null;
  let picked = -1;
  const rows = () => map.x.map((x, at) => ({
    x, y: map.y[at], class: map.class[at], cluster: map.cluster[at], row: map.row[at], text: map.text[at],
  }));
  const own = () => cards().map((card) => {
    const index = Number(card.dataset.index);
    return { x: map.own.x[index], y: map.own.y[index], class: classOf(card), index, text: shorten(textOf(card), 160) };
  });
  const pick = (index, { go = false } = {}) => {
    picked = index === picked ? -1 : index;
    cards().forEach((card) => {
      const chosen = Number(card.dataset.index) === picked;
      card.toggleAttribute("aria-current", chosen);
      if (chosen) card.setAttribute("aria-current", "true");
      card.querySelector("[data-action=show]")?.setAttribute("aria-pressed", String(chosen));
    });
    plane?.signal("picked", picked).runAsync();
    const stands = map ? map.cluster.filter((cluster) => cluster === picked).length : 0;
    if (map) $("#picked").textContent = picked < 0 ? "" : `Text ${picked} stands for the ${stands.toLocaleString("en")} rows in colour.`;
    const card = document.getElementById(`text-${picked}`);
    if (!go || !card) return;
    if (card.hidden) clearFilter();
    card.scrollIntoView({ block: "center" });
    card.focus({ preventScroll: true });
  };
  if (map) {
    const place = $(".plane");
    const spec = structuredClone(map.spec);
    const room = (place.clientWidth * place.clientHeight) / map.x.length;
    spec.params.find(({ name }) => name === "dot").value = Math.max(4, Math.min(60, 0.45 * room));
    draw(place, spec, { rows: rows(), own: own() }, { ink: "ink" }, "canvas").then((view) => {
      plane = view;
      view.addEventListener("click", (_, item) => {
        if (item?.datum?.index !== undefined) pick(item.datum.index, { go: item.datum.index !== picked });
        else if (picked >= 0) pick(-1);
      });
      place.dataset.drawn = String(map.x.length);
      filter();
    });
  }
  document.addEventListener("keydown", ({ key }) => {
    if (key === "Escape" && picked >= 0) pick(-1);
  });

  // --- search and filter ------------------------------------------------------------------------------------------
  const filter = () => {
    const wanted = $("#search").value.trim().toLowerCase();
    const chosen = $("#class").value;
    const found = cards().filter((card) => {
      const fits = (!chosen || classOf(card) === Number(chosen)) && textOf(card).toLowerCase().includes(wanted);
      card.hidden = !fits;
      return fits;
    }).length;
    const total = cards().length;
    const texts = total === 1 ? "text" : "texts";
    $("#count").textContent = found === total ? `${total.toLocaleString("en")} ${texts}`
      : `${found.toLocaleString("en")} of ${total.toLocaleString("en")} ${texts}${found ? "" : "; none fits, change the search"}`;
    plane?.signal("chosen", chosen ? Number(chosen) : -1).runAsync();
  };
  const clearFilter = () => {
    $("#search").value = "";
    $("#class").value = "";
    filter();
  };
  $("#search").addEventListener("input", filter);
  $("#class").addEventListener("change", filter);
  $(".tools").addEventListener("submit", (event) => event.preventDefault());

  // --- copy and download ------------------------------------------------------------------------------------------
  const records = () => cards().map((card) => ({
    text: textOf(card), label: classes[classOf(card)]?.id ?? null, label_text: card.dataset.label, weight: Number(card.dataset.weight),
  }));
  const fold = (text) => text.split(/\s+/u).filter(Boolean).join(" ");
  // A spreadsheet runs a cell that starts with one of these signs as a formula.
  const guard = (value) => (typeof value === "string" ? value.replace(/^'*[=+\-@\t\r\n＝＋－＠]/u, "'$&") : String(value));
  const cell = (value) => `"${guard(value).replaceAll('"', '""')}"`;
  const inTurn = () => { // the classes in turn: models lean towards the classes they saw last
    const names = new Set(records().map(({ label_text }) => label_text));
    const groups = [...names].map((name) => records().filter(({ label_text }) => label_text === name));
    const longest = Math.max(0, ...groups.map(({ length }) => length));
    return Array.from({ length: longest }, (_, at) => groups.flatMap((group) => group.slice(at, at + 1))).flat();
  };
  const task = () => "Classify the text. Answer with the name of one of these classes and nothing else: "
    + `${classes.map(({ name }) => fold(name)).join(", ")}.`;
  const formats = {
    jsonl: ["texts.jsonl", () => records().map((record) => `${JSON.stringify(record)}\n`).join("")],
    csv: ["texts.csv", () => ["text", "label", "label_text", "weight"].join(",") + "\r\n"
      + records().map((record) => `${Object.values(record).map(cell).join(",")}\r\n`).join("")],
    prompt: ["prompt.txt", () => [`${task()}\n`,
      ...inTurn().map(({ text, label_text }) => `Text: ${fold(text)}\nClass: ${fold(label_text)}\n`), "Text: "].join("\n")],
  };
  const copyOld = (text) => { // where a page from disk may not use the clipboard directly
    const area = document.body.appendChild(document.createElement("textarea"));
    area.value = text;
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  };
  const copy = async (text, button) => {
    const label = button.textContent;
    const done = await (navigator.clipboard?.writeText(text).then(() => true, () => copyOld(text)) ?? copyOld(text));
    button.textContent = done ? "Copied" : "Could not copy";
    setTimeout(() => { button.textContent = label; }, 1500);
  };
  $("#copy").addEventListener("click", ({ currentTarget }) => copy(formats[$("#format").value][1](), currentTarget));
  $("#download").addEventListener("click", () => {
    const [name, make] = formats[$("#format").value];
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([make()], { type: "text/plain;charset=utf-8" }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  });
  document.addEventListener("click", ({ target }) => {
    const button = target.closest?.("[data-action]");
    const card = button?.closest(".card");
    if (!card) return;
    if (button.dataset.action === "copy") copy(textOf(card), button);
    if (button.dataset.action === "show") {
      pick(Number(card.dataset.index));
      if (picked >= 0) $("#map").scrollIntoView({ block: "start" });
    }
  });
  filter(); // a browser may have kept what was typed before a reload
})();
