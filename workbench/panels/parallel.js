// Parallel coordinates: lines on a canvas, axes and handles as elements that the keyboard reaches.
const TITLE = 46, FOOT = 12, SIDE = 30, RIGHT = 74;

const isDark = () => document.body.dataset.jpThemeLight === "false";
const channels = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
// Dark colours would vanish on a dark page: as much white is mixed in as makes them stand out.
function onPage(colour) {
  if (!isDark()) return colour;
  const light = ([r, g, b]) => 0.2126 * r + 0.7152 * g + 0.0722 * b;
  let rgb = channels(colour);
  for (let i = 0; i < 12 && light(rgb) < 115; i++) rgb = rgb.map((c) => c + 0.12 * (255 - c));
  return `rgb(${rgb.map(Math.round).join(",")})`;
}

function shortest(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  for (const [unit, suffix] of [[1e12, "T"], [1e9, "B"], [1e6, "M"], [1e3, "k"]]) {
    if (size >= unit && size < 1e15) return `${Number((value / unit).toPrecision(3))}${suffix}`;
  }
  return size >= 1e15 || size < 1e-3 ? Number(value.toPrecision(3)).toExponential().replace("e+", "e")
    : String(Number(value.toPrecision(3)));
}

const element = (kind, name, parent) => {
  const made = document.createElement(kind);
  if (name) made.className = name;
  parent?.append(made);
  return made;
};

function render({ model, el }) {
  el.classList.add("wb-parallel");
  el.setAttribute("role", "group");
  el.setAttribute("aria-label", model.get("description"));
  // Plain keys belong to the control; JupyterLab would take them for its own shortcuts.
  el.addEventListener("keydown", (event) => {
    if (!event.ctrlKey && !event.metaKey && event.key !== "Escape") event.stopPropagation();
  });
  const head = element("div", "wb-parallel-head", el);
  const told = element("span", "", head);
  told.setAttribute("role", "status");
  const clear = element("button", "", head);
  clear.type = "button";
  clear.textContent = "Clear ranges";
  const legend = element("span", "wb-parallel-legend", head);
  const body = element("div", "wb-parallel-body", el);
  const canvas = element("canvas", "", body);
  canvas.setAttribute("aria-hidden", "true");
  const front = element("div", "", body);
  const tip = element("div", "wb-parallel-tip", body);
  tip.hidden = true;

  let axes = [], places = new Float32Array(0), groups = new Uint8Array(0), names = [], handles = [], ranges = [];
  let brushes = {}, hovered = -1, frame = 0, later = 0, width = 0;
  const high = () => model.get("height");
  const inner = () => high() - TITLE - FOOT;
  const left = (i) => axes.length < 2 ? (width - RIGHT + SIDE) / 2
    : SIDE + 14 + i * (width - SIDE - RIGHT - 14) / (axes.length - 1);
  const down = (place) => TITLE + (1 - place) * inner();

  // The value at a place on an axis; its ends exactly, so that the outermost runs stay inside.
  const value = (axis, place) => {
    if (place <= 0) return axis.low;
    if (place >= 1) return axis.high;
    const at = axis.log ? axis.low * (axis.high / axis.low) ** place : axis.low + place * (axis.high - axis.low);
    return Number(at.toPrecision(6));
  };
  const place = (axis, at) => {
    if (!(axis.high > axis.low)) return 0.5;
    const p = axis.log ? Math.log(at / axis.low) / Math.log(axis.high / axis.low) : (at - axis.low) / (axis.high - axis.low);
    return Math.min(Math.max(Number.isNaN(p) ? 0 : p, 0), 1);
  };
  // Places of the ends of the range on axis i: all of it where there is none.
  const ends = (i) => {
    const held = brushes[axes[i].column];
    return held ? held.map((end) => place(axes[i], end)) : [0, 1];
  };

  const send = () => {
    clearTimeout(later);
    later = setTimeout(() => { model.set("brushes", { ...brushes }); model.save_changes(); }, 15);
  };
  const setRange = (i, from, to) => {
    const axis = axes[i];
    const [low, up] = [Math.max(Math.min(from, to), 0), Math.min(Math.max(from, to), 1)];
    brushes = { ...brushes };
    if (low <= 0 && up >= 1) delete brushes[axis.column];
    else brushes[axis.column] = [value(axis, low), value(axis, up)];
    shown();
    send();
  };
  const takeBack = (i) => setRange(i, 0, 1);

  // What is inside while the hand moves; Python says which runs these are.
  const inside = () => {
    const limits = axes.map((axis, i) => brushes[axis.column] ? ends(i) : null);
    const kept = new Uint8Array(names.length).fill(1);
    limits.forEach((limit, a) => {
      if (!limit) return;
      for (let run = 0; run < kept.length; run++) {
        const at = places[run * axes.length + a];
        if (!(at >= limit[0] - 1e-6 && at <= limit[1] + 1e-6)) kept[run] = 0;
      }
    });
    return kept;
  };

  function trace(context, run) {
    let pen = false;
    for (let a = 0; a < axes.length; a++) {
      const at = places[run * axes.length + a];
      if (Number.isNaN(at)) { pen = false; continue; }
      if (pen) context.lineTo(left(a), down(at)); else context.moveTo(left(a), down(at));
      pen = true;
    }
  }

  function paint() {
    frame = 0;
    if (!width) return;
    const ratio = globalThis.devicePixelRatio || 1;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(high() * ratio);
    canvas.style.width = `${width}px`;
    canvas.style.height = `${high()}px`;
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    context.lineJoin = "round";
    const kept = inside(), brushed = Object.keys(brushes).length > 0;
    let count = 0;
    for (const one of kept) count += one;
    const colours = (model.get("_legend").colours ?? ["#0072B2"]).map(onPage);
    const stroke = (runs, colour, alpha, thick) => {
      context.strokeStyle = colour;
      context.globalAlpha = alpha;
      context.lineWidth = thick;
      for (const run of runs) { context.beginPath(); trace(context, run); context.stroke(); }
    };
    const all = [...names.keys()];
    if (brushed) stroke(all.filter((run) => !kept[run]), isDark() ? "#6b7280" : "#b4bac4", 0.3, 1);
    const alpha = Math.min(Math.max(120 / Math.max(count, 1), 0.16), 0.85);
    for (const [group, colour] of colours.entries()) {
      stroke(all.filter((run) => kept[run] && groups[run] === group), colour, alpha, 1.4);
    }
    const marked = new Set(model.get("marked"));
    if (marked.size) stroke(all.filter((run) => marked.has(names[run])), isDark() ? "#ff9b52" : "#D55E00", 1, 3);
    if (hovered >= 0) stroke([hovered], isDark() ? "#ffffff" : "#000000", 1, 2.5);
    el.dataset.drawn = String(Number(el.dataset.drawn ?? 0) + 1);
  }
  const repaint = () => { frame ||= requestAnimationFrame(paint); };

  // Handles, ranges and the status follow the brushes.
  function shown() {
    axes.forEach((axis, i) => {
      const [low, up] = ends(i), held = Boolean(brushes[axis.column]);
      ranges[i].hidden = !held;
      ranges[i].style.top = `${down(up) - TITLE}px`;
      ranges[i].style.height = `${Math.max(down(low) - down(up), 3)}px`;
      handles[i].forEach((handle, side) => {
        const at = side ? up : low;
        handle.style.top = `${down(at) - TITLE - (side ? 12 : 0)}px`;
        handle.classList.toggle("set", held);
        const number = held ? brushes[axis.column][side] : side ? axis.high : axis.low;
        handle.setAttribute("aria-valuenow", String(number));
        handle.setAttribute("aria-valuetext", words(axis, number));
      });
    });
    clear.disabled = !Object.keys(brushes).length;
    repaint();
  }
  const words = (axis, number) => axis.words.length ? axis.words[Math.round(number)] ?? shortest(number) : shortest(number);

  const near = (event) => {
    const box = body.getBoundingClientRect();
    return Math.min(Math.max(1 - (event.clientY - box.top - TITLE) / inner(), 0), 1);
  };

  // Follow the pointer until it is lifted; `move` gets the place under it.
  function drag(event, on, move, end) {
    event.preventDefault();
    event.stopPropagation();
    on.setPointerCapture(event.pointerId);
    const moved = (now) => move(near(now));
    const up = (now) => {
      on.removeEventListener("pointermove", moved);
      on.removeEventListener("pointerup", up);
      on.removeEventListener("pointercancel", up);
      end?.(near(now));
    };
    on.addEventListener("pointermove", moved);
    on.addEventListener("pointerup", up);
    on.addEventListener("pointercancel", up);
  }

  function makeHandle(axis, i, side, parent) {
    const handle = element("div", "wb-parallel-handle", parent);
    handle.tabIndex = 0;
    handle.setAttribute("role", "slider");
    handle.setAttribute("aria-label", `${axis.title}, ${side ? "upper" : "lower"} end`);
    handle.setAttribute("aria-orientation", "vertical");
    handle.setAttribute("aria-valuemin", String(axis.low));
    handle.setAttribute("aria-valuemax", String(axis.high));
    const to = (at) => {
      const pair = ends(i);
      pair[side] = side ? Math.max(at, pair[0]) : Math.min(at, pair[1]);
      setRange(i, ...pair);
    };
    handle.addEventListener("pointerdown", (event) => { drag(event, handle, to); handle.focus(); });
    handle.addEventListener("keydown", (event) => {
      const at = ends(i)[side];
      const stride = axis.words.length ? 1 / Math.max(axis.words.length - 1, 1) : 0.01;
      const moves = {
        ArrowUp: at + stride, ArrowRight: at + stride, ArrowDown: at - stride, ArrowLeft: at - stride,
        PageUp: at + 10 * stride, PageDown: at - 10 * stride, Home: 0, End: 1,
      };
      if (event.key === "Delete" || event.key === "Backspace") takeBack(i);
      else if (event.key in moves) to(Math.min(Math.max(moves[event.key], 0), 1));
      else return;
      event.preventDefault();
    });
    return handle;
  }

  function build() {
    axes = model.get("_axes").map((axis) => ({ ...axis }));
    const bytes = (name) => { const view = model.get(name); return view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength); };
    places = new Float32Array(bytes("_places"));
    groups = new Uint8Array(bytes("_groups"));
    names = model.get("_names");
    brushes = { ...model.get("brushes") };
    hovered = -1;
    tip.hidden = true;
    const focus = handles.flat().indexOf(document.activeElement);
    front.replaceChildren();
    body.style.height = `${axes.length ? high() : 0}px`;
    handles = [];
    ranges = [];
    const room = axes.length > 1 ? left(1) - left(0) : width;
    axes.forEach((axis, i) => {
      const name = element("div", "wb-parallel-title", front);
      element("span", "", name).textContent = axis.title;
      name.title = axis.title;
      Object.assign(name.style, {
        left: `${Math.max(left(i), Math.min(room, 130) / 2)}px`, top: "0", height: `${TITLE - 8}px`, width: `${Math.min(room - 6, 150)}px`,
      });
      for (const [at, label] of axis.ticks) {
        const tick = element("div", "wb-parallel-tick", front);
        tick.textContent = label;
        Object.assign(tick.style, { left: `${left(i) + 12}px`, top: `${down(at)}px`, maxWidth: `${Math.max(room - 30, 30)}px` });
      }
      const bar = element("div", "wb-parallel-axis", front);
      Object.assign(bar.style, { left: `${left(i)}px`, top: `${TITLE}px`, height: `${inner()}px` });
      const range = element("div", "wb-parallel-range", bar);
      range.addEventListener("pointerdown", (event) => {
        const [low, up] = ends(i), from = near(event);
        let moved = false;
        drag(event, range, (at) => {
          if (Math.abs(at - from) * inner() > 3) moved = true;
          const by = Math.min(Math.max(at - from, -low), 1 - up);
          if (moved) setRange(i, low + by, up + by);
        }, () => { if (!moved) takeBack(i); });
      });
      bar.addEventListener("pointerdown", (event) => {
        if (event.target !== bar) return;
        const from = near(event);
        let moved = false;
        drag(event, bar, (at) => {
          if (Math.abs(at - from) * inner() > 3) moved = true;
          if (moved) setRange(i, from, at);
        }, () => { if (!moved) takeBack(i); });
      });
      ranges.push(range);
      handles.push([0, 1].map((side) => makeHandle(axis, i, side, bar)));
    });
    if (focus >= 0) handles.flat()[focus]?.focus();
    shown();
    named();
  }

  function named() {
    told.textContent = model.get("_told");
    legend.replaceChildren();
    const { title, items } = model.get("_legend");
    if (!items?.length) return;
    element("span", "", legend).textContent = `${title}:`;
    for (const [label, colour] of items) {
      const item = element("span", "", legend);
      element("i", "", item).style.background = onPage(colour);
      item.append(label);
    }
  }

  // The run whose line is nearest to the pointer, within a few pixels.
  body.addEventListener("pointermove", (event) => {
    if (event.buttons || axes.length < 2) return;
    const box = body.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
    const a = Math.min(Math.max(Math.floor((x - left(0)) / (left(1) - left(0))), 0), axes.length - 2);
    const share = (x - left(a)) / (left(1) - left(0)), kept = inside();
    let best = 7, found = -1;
    for (let run = 0; run < names.length && share >= 0 && share <= 1; run++) {
      if (!kept[run]) continue;
      const from = places[run * axes.length + a], to = places[run * axes.length + a + 1];
      const off = Math.abs(down(from + share * (to - from)) - y);
      if (off < best) { best = off; found = run; }
    }
    if (found !== hovered) { hovered = found; repaint(); }
    tip.hidden = found < 0;
    if (found < 0) return;
    tip.textContent = names[found];
    tip.style.left = `${Math.min(x + 12, Math.max(width - 330, 0) + 12)}px`;
    tip.style.top = `${Math.max(y - 28, 0)}px`;
  });
  body.addEventListener("pointerleave", () => { tip.hidden = true; if (hovered >= 0) { hovered = -1; repaint(); } });
  clear.addEventListener("click", () => { brushes = {}; shown(); send(); });

  for (const name of ["_axes", "_places", "_groups", "_names", "_legend", "height"]) model.on(`change:${name}`, soon);
  let pending = 0;
  function soon() { pending ||= requestAnimationFrame(() => { pending = 0; if (width) build(); }); }
  model.on("change:marked", repaint);
  model.on("change:_told", () => { told.textContent = model.get("_told"); });
  model.on("change:brushes", () => {
    const held = model.get("brushes");
    if (JSON.stringify(held) === JSON.stringify(brushes)) return;
    brushes = { ...held };
    if (axes.length) shown();
  });
  const sizes = new ResizeObserver(() => {
    const now = Math.floor(el.getBoundingClientRect().width);
    if (now && now !== width) { width = now; build(); }
  });
  sizes.observe(el);
  const theme = new MutationObserver(() => { named(); repaint(); });
  theme.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light"] });
  return () => { sizes.disconnect(); theme.disconnect(); clearTimeout(later); cancelAnimationFrame(frame); cancelAnimationFrame(pending); };
}

export default { render };
