// The list of drops: what was dropped, what was made of it, and what will happen next.

import { el, icon } from "./dom.js";
import { afterWords, bytesWords, changeWords, dueWords, extentWords, STATUSES, stepWords, timeWords } from "./words.js";

const ARROW = "M5 12h14m-5-5 5 5-5 5";
const PICTURE = "M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4";

/** Returns what to show of a drop: `shownNow` says that the iTwin still shows this picture. */
export function dropView(drop, itwin) {
  const { result } = drop;
  return {
    ...drop,
    status: drop.isProbe ? "probe" : result?.status ?? (drop.ignored ? "ignored" : "waiting"),
    itwinName: itwin?.name ?? null,
    lacksItwin: !itwin && result?.error?.code === "iTwinNotFound",
    shownNow: Boolean(result?.image?.id && result.image.id === itwin?.image?.id),
  };
}

export function renderDrop(drop, makeItwin) {
  const { key, result, status } = drop;
  const sent = result?.sent;
  const address = `/api/drops/${encodeURIComponent(key)}`;
  return el("li", { className: "drop", "data-status": status },
    el("details", {},
      el("summary", { "data-focus": "summary" },
        el("span", { className: "pair", ariaHidden: "true" },
          thumbnail(sent && `${address}/before`), icon(ARROW, "icon arrow"), thumbnail(drop.hasAfter && `${address}/after`)),
        el("span", { className: "what" },
          el("strong", {}, drop.name),
          el("span", { className: "quiet" },
            drop.itwinName ?? drop.container, " · ", el("time", { dateTime: drop.droppedAt }, timeWords(drop.droppedAt))),
          gist(drop)),
        el("span", { className: "how" },
          el("span", { className: "pill", title: STATUSES[status] }, status),
          drop.shownNow && el("span", { className: "quiet now" }, "shown now"),
          nextAttempt(result),
          el("span", { className: "quiet sizes" }, [drop, sent].map((part) => bytesWords(part?.bytes)).filter(Boolean).join(" → ")))),
      el("div", { className: "whole" },
        sent && el("div", { className: "figures" },
          figure(["Dropped"], `${address}/before`, null, sourceOf(drop)),
          figure(afterWords(status), drop.hasAfter && `${address}/after`, `${address}/after?large`, sent)),
        story(drop),
        facts(drop),
        result && el("details", { className: "document" },
          el("summary", { "data-focus": "document" }, "The whole result"),
          el("pre", { tabIndex: 0 }, JSON.stringify(result, null, 2))))),
    drop.lacksItwin && remedy(drop, makeItwin));
}

function remedy({ key, name, status }, makeItwin) {
  const again = status !== "retrying";
  const label = again ? "Create this iTwin and drop the file again" : "Create this iTwin";
  return el("div", { className: "remedy" },
    el("button", { type: "button", "data-focus": "remedy", ariaLabel: `${label}: ${name}`, onclick: () => makeItwin(key, again) }, label));
}

const sourceOf = (drop) => ({ ...drop.result?.source, bytes: drop.bytes });

function thumbnail(source) {
  return source ? pictureOf(source, "") : el("span", { className: "frame none" }, icon(PICTURE));
}

/** Shows a picture, or a placeholder if it no longer exists. */
function pictureOf(source, alt) {
  const frame = el("span", { className: "frame" });
  const image = el("img", { src: source, alt, loading: "lazy" });
  image.addEventListener("error", () => {
    frame.classList.add("none");
    frame.replaceChildren(icon(PICTURE));
  });
  frame.append(image);
  return frame;
}

function gist({ result, status }) {
  if (!result) return null;
  if (status === "probe") return el("span", { className: "quiet" }, STATUSES.probe);
  if (result.reason) return el("span", { className: "reason" }, result.reason);
  const changes = result.sent?.changes ?? [];
  const words = changes.length ? changes.map(changeWords) : ["untouched"];
  return el("span", { className: "chips" }, ...words.map((word) => el("span", { className: "chip" }, word)));
}

function nextAttempt(result) {
  if (!result?.nextAttemptAt) return null;
  const { finishedAt, nextAttemptAt } = result;
  return el("span", { className: "next" },
    el("span", { className: "quiet", "data-due": nextAttemptAt, "data-attempt": result.attempts + 1 },
      dueWords(nextAttemptAt, result.attempts + 1)),
    el("progress", { max: 1, value: partOver(finishedAt, nextAttemptAt), ariaHidden: "true",
      "data-since": finishedAt, "data-until": nextAttemptAt }));
}

function partOver(since, until) {
  const [from, to] = [new Date(since), new Date(until)];
  return to > from ? Math.min(Math.max((Date.now() - from) / (to - from), 0), 1) : 1;
}

/** Shows the outcome of every attempt, if there was more than one. */
function story({ steps }) {
  if (steps.length < 2) return null;
  return el("ol", { className: "story", ariaLabel: "Attempts" }, ...steps.map((step) =>
    el("li", { "data-status": step.status },
      el("time", { dateTime: step.at }, timeWords(step.at)), ` attempt ${step.attempt}: `, el("strong", {}, step.status),
      ` ${stepWords(step)}`)));
}

function figure([title, withoutPicture], source, large, extent) {
  const picture = source
    ? pictureOf(source, `${title}: ${extentWords(extent)}`)
    : el("span", { className: "frame none" }, icon(PICTURE), el("span", {}, withoutPicture));
  return el("figure", {},
    large && source ? el("a", { href: large, target: "_blank", "data-focus": "large" }, picture) : picture,
    el("figcaption", {}, el("strong", {}, title), " ", extentWords(extent)));
}

function facts(drop) {
  const { result } = drop;
  const rows = [
    ["What it means", STATUSES[drop.status]],
    ["Reason", result?.reason],
    ["Error code", result?.error?.code],
    ["Dropped", !result?.sent && extentWords(sourceOf(drop))],
    ["Changes", result?.sent && (result.sent.changes.map(changeWords).join(", ") || "none: the same bytes")],
    ["Attempts", result?.attempts],
    ["Next attempt", result?.nextAttemptAt && `${timeWords(result.nextAttemptAt)}`],
    ["Platform response", result?.response && `HTTP ${result.response.httpStatus}`],
    ["Correlation ID", result?.response?.correlationId],
    ["Blob", `${drop.container}/${drop.name}`],
    ["ETag", drop.etag],
  ];
  return el("dl", {}, ...rows.filter(([, value]) => value).flatMap(([term, value]) => [
    el("dt", {}, term), el("dd", {}, String(value)),
  ]));
}

export function showTimes() {
  for (const due of document.querySelectorAll("[data-due]")) due.textContent = dueWords(due.dataset.due, due.dataset.attempt);
  for (const bar of document.querySelectorAll("[data-since]")) bar.value = partOver(bar.dataset.since, bar.dataset.until);
}
