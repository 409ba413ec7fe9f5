// Panels of an exported notebook: sliders move the law's lines, without a kernel and without a network.
"use strict";
(() => {
  const OPERATIONS = {
    add: (a, b) => a + b, subtract: (a, b) => a - b, multiply: (a, b) => a * b, divide: (a, b) => a / b,
    power: (a, b) => a ** b, negative: (a) => -a, exp: Math.exp, log: Math.log, expm1: Math.expm1, log1p: Math.log1p,
    log2: Math.log2, log10: Math.log10, sqrt: Math.sqrt, tanh: Math.tanh, absolute: Math.abs,
    maximum: (a, b) => Math.max(a, b), minimum: (a, b) => Math.min(a, b),
    // the larger one out of the logarithm, so that nothing overflows
    logaddexp: (a, b) => (a === b ? a + Math.LN2 : Math.max(a, b) + Math.log1p(Math.exp(-Math.abs(a - b)))),
    less: (a, b) => Number(a < b), less_equal: (a, b) => Number(a <= b), greater: (a, b) => Number(a > b),
    greater_equal: (a, b) => Number(a >= b), where: (c, a, b) => (c ? a : b),
  };
  const DARK = { "#1f2328": "#e6e8ec", "#667085": "#aab2bf", "#e6e8ec": "#3a3f47", "#000000": "#ffffff", white: "#161616" };
  const theme = matchMedia("(prefers-color-scheme: dark)");

  // Every step of the law, over all points at once; a number stands for as many equal ones as are needed.
  function run(steps, values, n) {
    const made = [];
    for (const [kind, ...rest] of steps) {
      if (kind === "argument") made.push(values[rest[0]]);
      else if (kind === "constant") made.push(rest[0]);
      else {
        const of = rest.map((i) => made[i]), act = OPERATIONS[kind];
        if (of.every((v) => !Array.isArray(v))) { made.push(act(...of)); continue; }
        const out = new Array(n);
        for (let k = 0; k < n; k++) out[k] = act(...of.map((v) => (Array.isArray(v) ? v[k] : v)));
        made.push(out);
      }
    }
    return made;
  }

  const shortest = (v) => {
    const d = Number(v.toPrecision(4));
    return v === 0 ? "0" : Math.abs(d) >= 1e5 || Math.abs(d) < 1e-3 ? d.toExponential().replace("e+", "e") : String(d);
  };
  const percent = (v) => {
    if (!Number.isFinite(v)) return "an unbounded factor";
    return v < 0.5 ? `${Number((100 * v).toPrecision(3))} %` : `a factor ${shortest(Number(Math.exp(v).toPrecision(3)))}`;
  };
  const make = (tag, of, text) => {
    const element = Object.assign(document.createElement(tag), of);
    if (text !== undefined) element.textContent = text;
    return element;
  };

  // Colours too dark for a dark page are mixed with white.
  function lifted(value) {
    if (typeof value !== "string") return value;
    if (Object.hasOwn(DARK, value)) return DARK[value];
    if (!/^#[0-9a-f]{6}$/i.test(value)) return value;
    const rgb = [1, 3, 5].map((i) => parseInt(value.slice(i, i + 2), 16));
    const light = (0.2126 * rgb[0] + 0.7152 * rgb[1] + 0.0722 * rgb[2]) / 255;
    if (light > 0.42) return value;
    return `#${rgb.map((c) => Math.round(c + (0.5 - light) * (255 - c)).toString(16).padStart(2, "0")).join("")}`;
  }

  function coloured(spec) {
    const plain = { ...spec, config: { ...spec.config, background: "transparent" } };
    if (!theme.matches) return plain;
    return JSON.parse(JSON.stringify(plain), (key, value) => lifted(value));
  }

  function filled(spec, data) {
    if (Array.isArray(spec)) return spec.map((item) => filled(item, data));
    if (spec === null || typeof spec !== "object") return spec;
    const out = {};
    for (const [key, value] of Object.entries(spec)) {
      out[key] = key === "data" && value && Object.hasOwn(data, value.name)
        ? { name: value.name, values: structuredClone(data[value.name]) } : filled(value, data);
    }
    return out;
  }

  class Panel {
    constructor(element, held, number) {
      Object.assign(this, { element, held, number, shown: { ...held.data }, view: null });
      this.values = Object.fromEntries(held.sliders.map((s) => [s.symbol, s.value]));
      this.controls = {};
    }

    async open() {
      const { held } = this;
      this.holder = make("div", { className: "wb-figure" });
      await this.draw();
      const sliders = make("div", { className: "wb-sliders" });
      for (const s of held.sliders) sliders.append(this.slider(s));
      this.told = make("p", { className: "wb-told" });
      this.told.setAttribute("role", "status");
      const buttons = make("div", { className: "wb-buttons" });
      buttons.append(this.button(`Back to ${held.start}`, () => this.set(this.origin)));
      this.origin = { ...this.values };
      if (held.reveal) buttons.append(this.button("Reveal the fit", () => this.reveal()));
      this.answer = make("div", { className: "wb-answer" });
      this.element.replaceChildren(this.holder, sliders, buttons, this.told, this.answer);
      theme.addEventListener("change", () => this.draw());
      this.tell();
    }

    async draw() {
      const next = make("div");
      const made = await workbenchVega.vegaEmbed(next, filled(coloured(this.held.spec), this.shown), {
        mode: "vega-lite", actions: false, renderer: "svg", ast: true,
        tooltip: { theme: theme.matches ? "dark" : "light" },
      });
      this.view = made.view;
      next.setAttribute("role", "img");
      next.setAttribute("aria-label", this.element.getAttribute("aria-label"));
      this.holder.replaceChildren(next);
    }

    slider(s) {
      const to = (v) => (s.log ? Math.log10(v) : v);
      const from = (at) => Number((s.log ? 10 ** at : at).toPrecision(6));
      const id = `wb-${this.number}-${this.held.sliders.indexOf(s)}`;
      const row = make("div", { className: "wb-slider" });
      const label = make("label", { htmlFor: id }, s.label);
      const range = make("input", { type: "range", id, min: to(s.min), max: to(s.max) });
      range.step = (to(s.max) - to(s.min)) / 200;
      const typed = make("input", { type: "text", inputMode: "decimal" });
      typed.setAttribute("aria-label", `${s.label}, typed`);
      const put = (v) => {
        range.value = to(v);
        typed.value = shortest(v);
        range.setAttribute("aria-valuetext", shortest(v));
      };
      range.addEventListener("input", () => {
        const v = from(Number(range.value));
        typed.value = shortest(v);
        range.setAttribute("aria-valuetext", shortest(v));
        this.set({ [s.symbol]: v }, false);
      });
      typed.addEventListener("change", () => {
        const v = Number(typed.value.replace(",", "."));
        if (typed.value.trim() !== "" && Number.isFinite(v)) this.set({ [s.symbol]: Math.min(Math.max(v, s.min), s.max) });
        else put(this.values[s.symbol]);
      });
      put(s.value);
      this.controls[s.symbol] = put;
      row.append(label, range, typed, make("span", { className: "wb-meaning" }, s.meaning));
      return row;
    }

    button(text, act) {
      const made = make("button", { type: "button" }, text);
      made.addEventListener("click", act);
      return made;
    }

    set(values, show = true) {
      Object.assign(this.values, values);
      if (show) for (const [symbol, v] of Object.entries(values)) this.controls[symbol](v);
      this.feed();
      this.tell();
    }

    feed() {
      for (const curve of this.held.curves) {
        const n = Object.values(curve.inputs)[0].length;
        const made = run(this.held.steps, { ...this.values, ...curve.inputs }, n);
        const rows = curve.rows.map((row, i) => {
          const of = made[curve.out[Math.floor(i / n)]], y = Array.isArray(of) ? of[i % n] : of;
          return { ...row, y: Number.isFinite(y) && (y > 0 || !this.held.log) ? y : null };
        });
        this.shown[curve.dataset] = rows;
        this.view.data(curve.dataset, structuredClone(rows));
      }
      this.view.runAsync();
    }

    misfit() {
      const { inputs, y } = this.held.points;
      const steps = run(this.held.steps, { ...this.values, ...inputs }, y.length);
      const of = steps[this.held.curves[0].out[0]];
      let sum = 0;
      for (let i = 0; i < y.length; i++) sum += Math.log((Array.isArray(of) ? of[i] : of) / y[i]) ** 2;
      return Number.isNaN(sum) ? Infinity : Math.sqrt(sum / y.length);
    }

    tell() {
      if (!this.held.points) return;
      const runs = this.held.points.y.length;
      this.told.textContent = `The sliders miss the ${runs} runs by ${percent(this.misfit())} (root mean square of the logarithm).`;
    }

    reveal() {
      const { params, rms, runs } = this.held.reveal;
      const table = make("table"), head = make("tr");
      for (const word of ["", "your guess", "fit", "off by"]) head.append(make("th", { scope: "col" }, word));
      table.append(head);
      for (const s of this.held.sliders) {
        const mine = this.values[s.symbol], fit = params[s.symbol], factor = mine / fit, row = make("tr");
        const off = mine > 0 && fit > 0
          ? `a factor ${Number(Math.max(factor, 1 / factor).toPrecision(3))}` : shortest(mine - fit);
        row.append(make("th", { scope: "row" }, s.label));
        for (const cell of [shortest(mine), shortest(fit), off]) row.append(make("td", {}, cell));
        table.append(row);
      }
      const mine = this.held.points ? `Your guess missed the runs by ${percent(this.misfit())}, ` : "";
      const words = make("p", {}, `${mine}${mine ? "the" : "The"} fit to ${runs} runs by ${percent(rms)}. The curve is the fit now.`);
      this.answer.replaceChildren(words, table);
      this.set(params);
    }
  }

  document.querySelectorAll(".wb-live").forEach(async (element, number) => {
    const held = JSON.parse(element.querySelector('script[type="application/json"]').textContent);
    const picture = [...element.childNodes];
    const panel = new Panel(element, held, number);
    try {
      await panel.open();
      element.workbench = panel;
      element.classList.add("wb-ready");
    } catch (error) {  // the picture says what the panel could
      element.replaceChildren(...picture);
      console.error(error);
    }
  });
})();
