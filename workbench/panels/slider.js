// A range input with a number beside it. Positions are spaced evenly, or by factors where `log` is set.
function shortest(value) {
  if (value === 0) return "0";
  const digits = Number(value.toPrecision(4));
  return Math.abs(digits) >= 1e5 || Math.abs(digits) < 1e-3 ? digits.toExponential().replace("e+", "e") : String(digits);
}

function render({ model, el }) {
  const id = `wb-slider-${Math.random().toString(36).slice(2)}`;  // every widget loads this file anew
  el.classList.add("wb-slider");
  // Plain keys belong to the control; JupyterLab would take them for its own shortcuts.
  el.addEventListener("keydown", (event) => {
    if (!event.ctrlKey && !event.metaKey && event.key !== "Escape") event.stopPropagation();
  });
  const label = document.createElement("label");
  label.htmlFor = id;
  const range = document.createElement("input");
  range.type = "range";
  range.id = id;
  const number = document.createElement("input");
  number.type = "text";
  number.inputMode = "decimal";
  const unit = document.createElement("span");
  unit.className = "wb-slider-unit";
  el.append(label, range, number, unit);

  const log = () => model.get("log");
  const to = (value) => (log() ? Math.log10(value) : value);
  const from = (at) => Number((log() ? 10 ** at : at).toPrecision(6));

  const update = () => {
    const value = model.get("value");
    label.textContent = model.get("description");
    number.setAttribute("aria-label", `${model.get("description")}, typed`);
    range.min = to(model.get("min"));
    range.max = to(model.get("max"));
    range.step = model.get("step");
    if (Math.abs(from(Number(range.value)) - value) > 1e-9 * Math.abs(value)) range.value = to(value);
    range.setAttribute("aria-valuetext", `${shortest(value)} ${model.get("unit")}`.trim());
    if (document.activeElement !== number) number.value = shortest(value);
    unit.textContent = model.get("unit");
    range.disabled = number.disabled = model.get("disabled");
  };
  const send = (value) => {
    model.set("value", value);
    model.save_changes();
  };
  range.addEventListener("input", () => {
    const value = from(Number(range.value));
    number.value = shortest(value);
    send(value);
  });
  const typed = () => {
    const value = Number(number.value.replace(",", "."));
    const good = number.value.trim() !== "" && Number.isFinite(value);
    number.setAttribute("aria-invalid", String(!good));
    if (good) send(Math.min(Math.max(value, model.get("min")), model.get("max")));
    else number.value = shortest(model.get("value"));
  };
  number.addEventListener("change", typed);
  number.addEventListener("blur", update);
  for (const name of ["value", "min", "max", "step", "log", "description", "unit", "disabled"]) {
    model.on(`change:${name}`, update);
  }
  update();
}

export default { render };
