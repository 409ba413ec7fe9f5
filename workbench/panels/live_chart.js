// A chart on the screen: compiled once a drawing, fed with rows after that.
const PAPER = "#1b1d21";  // of a dark page
// Colours of workbench/figures/style.py that mean the page or its ink, as they read on a dark page.
const DARK = {
  "#1f2328": "#e6e8ec", "#667085": "#aab2bf", "#e6e8ec": "#3a3f47", "#98a2b3": "#7d8694", "#000000": "#ffffff",
  black: "#ffffff", white: PAPER, "#ffffff": PAPER,
};
const COLOUR = /^#[0-9a-f]{6}$/i;

async function load(model) {
  if (!globalThis.workbenchVega) {
    const id = model.get("_library").replace("IPY_MODEL_", "");
    const library = await model.widget_manager.get_model(id);
    const url = URL.createObjectURL(new Blob([library.get("source")], { type: "text/javascript" }));
    globalThis.workbenchVegaLoading ??= import(/* webpackIgnore: true */ url);
    await globalThis.workbenchVegaLoading;
    URL.revokeObjectURL(url);
  }
  return globalThis.workbenchVega;
}

const isDark = () => document.body.dataset.jpThemeLight === "false";
const plain = (value) => JSON.parse(JSON.stringify(value ?? null));
// Vega marks the rows it is given; each view has its own.
const copied = (rows) => rows.map((row) => ({ ...row }));

const channels = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
function luminance(hex) {
  const [r, g, b] = channels(hex).map((c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

// The colour itself, or as much of white in it as makes it stand out from the dark page (WCAG 1.4.3: 4.5 to 1).
function lifted(colour) {
  if (Object.hasOwn(DARK, colour.toLowerCase())) return DARK[colour.toLowerCase()];
  if (!COLOUR.test(colour)) return colour;
  const page = luminance(PAPER) + 0.05;
  for (let part = 0; part < 1; part += 0.08) {
    const mixed = "#" + channels(colour).map((c) => Math.round(c + part * (255 - c)).toString(16).padStart(2, "0")).join("");
    if ((luminance(mixed) + 0.05) / page >= 4.5) return mixed;
  }
  return "#ffffff";
}

// Words are no colours: a run may be called "white".
const WORDS = new Set(["title", "text", "subtitle", "description", "field", "name", "domain", "values", "sort", "expr",
  "equal", "oneOf", "groupby", "fields", "format"]);
function darkened(node, key) {
  if (typeof node === "string") return WORDS.has(key) && !COLOUR.test(node) ? node : lifted(node);
  if (Array.isArray(node)) return node.map((item) => darkened(item, key));
  if (node === null || typeof node !== "object") return node;
  return Object.fromEntries(Object.entries(node).map(([name, child]) => [name, darkened(child, name)]));
}

function filled(spec, rows) {
  if (Array.isArray(spec)) return spec.map((item) => filled(item, rows));
  if (spec === null || typeof spec !== "object") return spec;
  const out = {};
  for (const [key, value] of Object.entries(spec)) {
    out[key] = key === "data" && value && Object.hasOwn(rows, value.name)
      ? { name: value.name, values: copied(rows[value.name]) } : filled(value, rows);
  }
  return out;
}

// The drawing with its rows, in the colours of the page.
function onPage(spec, rows) {
  if (!isDark()) return filled(spec, rows);
  const dark = darkened(spec, "");
  dark.config = { ...dark.config, background: PAPER };
  return filled(dark, Object.fromEntries(Object.entries(rows).map(([name, held]) => [name, inDark(held)])));
}

// Rows whose colours, where they hold any, stand out from a dark page.
const inDark = (held) => held.map((row) => Object.fromEntries(Object.entries(row).map(
  ([name, value]) => [name, typeof value === "string" && COLOUR.test(value) ? lifted(value) : value])));
const asOnPage = (held) => isDark() ? inDark(held) : copied(held);

// What the horizontal and vertical axes of a drawing mean: a box drawn on others has lost its sense.
function axes(spec) {
  const found = [];
  const walk = (node) => {
    if (Array.isArray(node)) return node.forEach(walk);
    if (node === null || typeof node !== "object") return;
    for (const channel of ["x", "y"]) {
      const held = node.encoding?.[channel];
      if (held) found.push([channel, held.field ?? "", held.scale?.type ?? "", String(held.axis?.title ?? held.title ?? "")]);
    }
    for (const [key, child] of Object.entries(node)) if (key !== "encoding" && key !== "data") walk(child);
  };
  walk(spec);
  return JSON.stringify([...new Set(found.map((one) => one.join("\u0000")))].sort());
}

// What the reader has selected on `view`, by selection: boxes by channel, null for anything else.
function selected(view, names) {
  const out = {};
  for (const name of names) {
    try {
      const [drawn] = view.data(`${name}_store`);
      if (!drawn) continue;
      const box = drawn.fields?.every((field) => field.type === "R");
      out[name] = box && Object.fromEntries(drawn.fields.map((field, at) => [field.channel, [...drawn.values[at]]]));
    } catch (unknown) { /* this drawing has no such selection */ }
  }
  return out;
}

// Whether `view` draws these rows; if not, another drawing which does is on its way.
function holds(view, name) {
  try {
    return view.data(name) !== undefined;
  } catch (unknown) {
    return false;
  }
}

function save(name, type, content) {
  const link = document.createElement("a");
  link.href = content.startsWith("data:") ? content : URL.createObjectURL(new Blob([content], { type }));
  link.download = name;
  link.click();
  if (link.href.startsWith("blob:")) setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

export default () => {
  // One of these a chart, whatever the number of its views: its newest rows. Python sends only those that changed.
  let rows = {};
  const views = new Set();

  function initialize({ model }) {
    rows = { ...model.get("_drawing").data };
    model.on("change:_drawing", () => { rows = { ...model.get("_drawing").data }; });
    model.on("change:fresh", () => {
      const fresh = model.get("fresh").rows ?? {};
      Object.assign(rows, fresh);
      for (const feed of views) feed(Object.keys(fresh));
    });
  }

  async function render({ model, el }) {
    const { vegaEmbed } = await load(model);
    const holder = document.createElement("div");
    holder.className = "wb-chart";
    const menu = document.createElement("div");
    menu.className = "wb-chart-menu";
    menu.setAttribute("role", "group");
    menu.setAttribute("aria-label", "Download the figure");
    el.append(holder, menu);
    // Plain keys belong to the control; JupyterLab would take them for its own shortcuts.
    el.addEventListener("keydown", (event) => {
      if (!event.ctrlKey && !event.metaKey && event.key !== "Escape") event.stopPropagation();
    });

    let embedded = null, meaning = "", listened = [], wanted = 0, gone = false;
    const waiting = new Set();
    let feeding = false;

    const report = (name, value) => {
      model.set("selected", { ...model.get("selected"), [name]: plain(value) });
      model.save_changes();
    };

    const told = (began) => {
      const now = performance.now();
      el.dataset.drawn = String(Number(el.dataset.drawn ?? 0) + 1);
      el.dataset.drawnIn = String(now - began);
      el.dataset.drawnAt = String(now);
    };

    async function compile() {
      const turn = ++wanted, began = performance.now();
      const { spec: drawing, selections: names, title } = model.get("_drawing");
      if (!drawing || !Object.keys(drawing).length) return;
      const now = axes(drawing);
      // A box stays while the axes mean the same.
      const had = embedded ? selected(embedded.view, listened) : {};
      const spec = onPage(drawing, rows);
      const kept = new Set();
      for (const param of spec.params ?? []) {
        if (now === meaning && had[param.name]) { param.value = had[param.name]; kept.add(param.name); }
      }
      const given = { ...rows };
      const next = document.createElement("div");
      let made;
      try {
        made = await vegaEmbed(next, spec, {
          actions: false, renderer: "svg", tooltip: { theme: isDark() ? "dark" : "light" },
        });
      } catch (error) {
        holder.textContent = `This chart cannot be drawn: ${error.message}`;
        return;
      }
      if (turn !== wanted || gone) { made.finalize(); return; }  // a later drawing has overtaken this one
      const first = embedded === null, old = embedded;
      embedded = made;
      meaning = now;
      listened = names;
      next.setAttribute("role", "img");
      next.setAttribute("aria-label", title);
      next.querySelector("svg")?.setAttribute("aria-hidden", "true");  // an image is read as a whole
      holder.replaceChildren(next);
      for (const name of names) {
        let pending = null;
        made.view.addSignalListener(name, (_, value) => {
          clearTimeout(pending);
          pending = setTimeout(() => report(name, value), 10);
        });
      }
      // What has gone is told; so is what a page that is opened again has forgotten.
      const lost = first && views.size === 1 ? model.get("selected") ?? {} : had;
      for (const name of Object.keys(lost)) {
        if (!kept.has(name) && Object.keys(model.get("selected")?.[name] ?? {}).length) report(name, {});
      }
      el.style.minHeight = "0";  // the room that was kept free for the first drawing
      told(began);
      const late = Object.keys(rows).filter((name) => rows[name] !== given[name]);
      if (late.length) feed(late);
      old?.finalize();
    }

    // Rows that arrive while others are being drawn wait for one another: only the newest are drawn.
    async function feed(changed) {
      for (const name of changed) waiting.add(name);
      if (feeding || !embedded) return;
      feeding = true;
      try {
        while (waiting.size && !gone) {
          const view = embedded.view, began = performance.now();
          for (const name of waiting) if (holds(view, name)) view.data(name, asOnPage(rows[name] ?? []));
          waiting.clear();
          await view.runAsync();
          told(began);
        }
      } finally {
        feeding = false;
      }
    }

    model.on("change:_drawing", compile);
    views.add(feed);
    const theme = new MutationObserver(compile);
    theme.observe(document.body, { attributeFilter: ["data-jp-theme-light"] });

    const name = () => model.get("file");
    // Files are for paper: drawn anew in light colours, without the box of a brush.
    const paper = async (act) => {
      const made = await vegaEmbed(document.createElement("div"), filled(model.get("_drawing").spec, rows),
        { actions: false, renderer: "svg" });
      try { await act(made.view); } finally { made.finalize(); }
    };
    const choices = {
      PNG: () => paper(async (view) => save(`${name()}.png`, "image/png", await view.toImageURL("png", 2))),
      SVG: () => paper(async (view) => save(`${name()}.svg`, "image/svg+xml", await view.toSVG())),
      CSV: () => model.send({ ask: "csv" }),
      "Vega-Lite": () => save(`${name()}.vl.json`, "application/json",
        JSON.stringify(filled(model.get("_drawing").spec, rows), null, 1)),
    };
    const label = document.createElement("span");
    label.textContent = "Download";
    menu.append(label);
    for (const [kind, act] of Object.entries(choices)) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = kind;
      button.setAttribute("aria-label", `${kind}: download the figure`);
      button.addEventListener("click", () => { asked = kind; act(); });
      menu.append(button);
    }
    let asked = "";
    model.on("msg:custom", (message) => {
      if (message.csv === undefined || asked !== "CSV") return;  // another view has asked
      asked = "";
      save(`${name()}.csv`, "text/csv", message.csv);
    });

    await compile();
    return () => { gone = true; views.delete(feed); theme.disconnect(); embedded?.finalize(); };
  }

  return { initialize, render };
};
