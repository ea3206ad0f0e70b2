// Buttons that copy something to the clipboard, and say so.

import { el, icon } from "./dom.js";

const COPY = "M9 9h11v11H9zM5 15H4V4h11v1";
const TOLD_MS = 1500;

/** Creates a button; `text` returns what to copy, and is called on each click. */
export function copyButton(label, name, text) {
  const button = el("button", { type: "button", className: "copy", "data-focus": `copy ${label}`, ariaLabel: name, title: name },
    icon(COPY), el("span", {}, label));
  button.addEventListener("click", () => copy(button.querySelector("span"), text()));
  return button;
}

/** Copies the text, and briefly shows in `place` whether that succeeded. */
export async function copy(place, text) {
  const label = place.dataset.label ??= place.textContent;
  const isCopied = await navigator.clipboard.writeText(text).then(() => true, () => false);
  place.textContent = isCopied ? "Copied" : "Not allowed";
  document.getElementById("news").textContent = isCopied ? "Copied" : "The browser does not allow copying";
  setTimeout(() => { place.textContent = label; }, TOLD_MS);
}
