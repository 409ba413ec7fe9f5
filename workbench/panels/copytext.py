"""A button that copies text to the clipboard and shows what it copied; another puts it into a new cell.

Notebook HTML may not run scripts, so this is a small widget of its own. Text is only ever set as text
content, never as markup. The new cell needs the notebook's model, which the widget manager of JupyterLab and
Notebook 7 knows (its public ``context``); other front ends do not give it, and there the button is absent.
"""

from __future__ import annotations

import anywidget
import traitlets

__all__ = ["CopyText"]

_ESM = """
function render({ model, el }) {
  // Plain keys belong to the control; JupyterLab would take them for its own shortcuts.
  el.addEventListener("keydown", (event) => {
    if (!event.ctrlKey && !event.metaKey && event.key !== "Escape") event.stopPropagation();
  });
  const button = document.createElement("button");
  button.type = "button";
  button.className = "lm-Widget jupyter-widgets jupyter-button widget-button wb-copy-button";
  const insert = document.createElement("button");
  insert.type = "button";
  insert.className = button.className;
  insert.textContent = "Insert cell below";
  const book = () => model.widget_manager?.context?.model?.sharedModel;
  const place = () => Number(el.closest(".jp-Cell")?.dataset.windowedListIndex ?? NaN);
  const status = document.createElement("span");
  status.className = "wb-copy-status";
  status.setAttribute("role", "status");
  const shown = document.createElement("pre");
  shown.className = "wb-copy-text";
  shown.tabIndex = 0;
  shown.hidden = true;
  const update = () => {
    button.textContent = model.get("description");
    shown.setAttribute("aria-label", model.get("description"));
    shown.textContent = model.get("text");
    status.textContent = "";
    insert.hidden = !model.get("inserts") || typeof book()?.insertCell !== "function";
  };
  const select = () => {
    const range = document.createRange();
    range.selectNodeContents(shown);
    const selection = window.getSelection();
    selection.removeAllRanges();
    selection.addRange(range);
  };
  button.addEventListener("click", async () => {
    shown.hidden = false;
    let copied = false;
    try {
      await navigator.clipboard.writeText(model.get("text"));
      copied = true;
    } catch (refused) {  // no permission, or the page is not served securely
      select();
      copied = document.execCommand("copy");
    }
    status.textContent = copied ? "Copied" : "Selected: press Ctrl+C to copy";
  });
  insert.addEventListener("click", () => {
    const at = place();
    if (!Number.isInteger(at)) { status.textContent = "No cell found: use the other button"; return; }
    book().insertCell(at + 1, { cell_type: "code", source: model.get("text").trimEnd(), metadata: {} });
    status.textContent = "Inserted below";
  });
  model.on("change:text", update);
  model.on("change:description", update);
  update();
  el.append(button, insert, status, shown);
}
export default { render };
"""

_CSS = """
.wb-copy-button { width: auto; padding: 0 12px; }
.wb-copy-button[hidden] { display: none; }
.wb-copy-button:focus-visible, .wb-copy-text:focus-visible { outline: 2px solid #0072b2; outline-offset: 1px; }
.wb-copy-status { margin-left: 10px; font-family: var(--jp-ui-font-family, sans-serif); font-size: 13px; }
.wb-copy-text { margin: 6px 0 0; padding: 8px 10px; max-height: 320px; overflow: auto; font-size: 12px;
  background: var(--jp-layout-color2, #f2f2f2); color: var(--jp-content-font-color1, #1f2328); }
"""


class CopyText(anywidget.AnyWidget):
    """A labelled button that copies `text`.

    Attributes:
        text: what is copied.
        description: the button's label.
        inserts: whether a second button puts the text into a new cell below, where the front end allows it.
    """

    _esm = _ESM
    _css = _CSS
    text = traitlets.Unicode().tag(sync=True)
    description = traitlets.Unicode("Copy").tag(sync=True)
    inserts = traitlets.Bool(False).tag(sync=True)
