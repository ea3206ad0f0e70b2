// The gallery: each iTwin with its current picture.

import { copyButton } from "./copying.js";
import { el, icon } from "./dom.js";
import { bytesWords, typeWords } from "./words.js";

export function renderItwin(itwin, chooseFor, commandFor) {
  const { id, name, image } = itwin;
  const address = image && `/api/itwins/${id}/image?v=${encodeURIComponent(image.id)}`;
  const picture = image
    ? el("a", { className: "frame", href: `${address}&large`, target: "_blank", "data-focus": "picture" },
        el("img", { src: address, alt: `The picture that ${name} shows now`, loading: "lazy" }))
    : el("div", { className: "frame none" }, icon("M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4"), el("span", {}, "no picture yet"));
  return el("li", { className: "itwin", "data-itwin": id },
    picture,
    el("div", { className: "caption" },
      el("strong", { title: name }, name),
      el("span", { className: "quiet" }, image ? `${typeWords(image.mediaType)} · ${bytesWords(image.bytes)}` : "nothing uploaded yet"),
      el("code", { title: id }, id)),
    el("button", { type: "button", className: "here", "data-focus": "here", onclick: () => chooseFor(id) },
      "Drop here", el("span", { className: "unseen" }, ` on ${name}`)),
    el("div", { className: "copies" },
      copyButton("ID", `Copy the ID of ${name}`, () => id),
      copyButton("curl", `Copy a curl command that writes to ${name}`, () => commandFor(id))));
}
