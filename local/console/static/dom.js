// Creates elements from text only, so that no file name and no response can become HTML.

const SVG = "http://www.w3.org/2000/svg";

/** Creates an element; names that are not DOM properties become attributes, and children are elements or strings. */
export function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name in element && name !== "list") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Draws a line icon. */
export function icon(path, className = "icon") {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", className);
  svg.setAttribute("aria-hidden", "true");
  const line = document.createElementNS(SVG, "path");
  line.setAttribute("d", path);
  svg.append(line);
  return svg;
}

/** Keeps a list's children in sync with `items`: unchanged ones stay, and so do open details and the focus. */
export class KeyedList {
  #shown = new Map();

  constructor(list, render) {
    this.list = list;
    this.render = render;
  }

  node(key) {
    return this.#shown.get(key)?.node;
  }

  show(items) {
    const before = this.#shown;
    this.#shown = new Map();
    let position = this.list.firstElementChild;
    for (const item of items) {
      const signature = JSON.stringify(item);
      const old = before.get(item.key);
      let node = old?.node;
      if (old?.signature !== signature) {
        node = this.render(item);
        if (old) {
          replaceKeepingState(old.node, node);
          if (position === old.node) position = node;
        }
      }
      if (node === position) position = position.nextElementSibling;
      else this.list.insertBefore(node, position);
      this.#shown.set(item.key, { node, signature });
    }
    for (const [key, { node }] of before) if (!this.#shown.has(key)) node.remove();
  }
}

function replaceKeepingState(old, fresh) {
  const open = [...old.querySelectorAll("details")].map((details) => details.open);
  [...fresh.querySelectorAll("details")].forEach((details, index) => { details.open = open[index] ?? false; });
  const focused = old.contains(document.activeElement) ? document.activeElement.dataset.focus : undefined;
  old.replaceWith(fresh);
  if (focused) fresh.querySelector(`[data-focus="${focused}"]`)?.focus();
}
