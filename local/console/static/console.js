// The page: shows what arrives in the stream of events, and sends what the user does.

import { copy } from "./copying.js";
import { KeyedList, el } from "./dom.js";
import { dropView, renderDrop, showTimes } from "./drops.js";
import { renderItwin } from "./itwins.js";
import { droppedFiles, dropFiles, send } from "./uploads.js";

const find = (id) => document.getElementById(id);
const items = new Map();
const told = new Map();
const uploads = { done: 0, total: 0 };
let isOld = true; // the first items existed before the page was opened
const itwinList = new KeyedList(find("itwins"), (itwin) => renderItwin(itwin, chooseFor, commandFor));
const dropList = new KeyedList(find("drops"), (drop) => renderDrop(drop, makeItwin));

function listen() {
  const events = new EventSource("/api/events");
  events.addEventListener("welcome", () => {
    items.clear();
    isOld = true;
    connected(true);
    show();
  });
  events.addEventListener("message", (event) => {
    for (const [key, item] of Object.entries(JSON.parse(event.data))) {
      if (item) items.set(key, { key, ...item });
      else items.delete(key);
    }
    show();
    isOld = false;
  });
  events.addEventListener("error", () => connected(false));
}

function connected(is) {
  find("connection").textContent = is ? "live" : "the local cloud does not respond";
  document.body.classList.toggle("offline", !is);
}

function show() {
  const ofKind = (kind) => [...items.values()].filter(({ key }) => key.startsWith(kind));
  const itwins = ofKind("itwin:").sort((one, other) => other.createdAt.localeCompare(one.createdAt));
  const drops = ofKind("drop:")
    .sort((one, other) => other.sequence - one.sequence)
    .map((drop) => dropView(drop, items.get(`itwin:${drop.container}`)));
  itwinList.show(itwins);
  dropList.show(drops);
  find("no-itwins").hidden = itwins.length > 0;
  find("no-drops").hidden = drops.length > 0;
  showTargets(itwins);
  showTally(drops);
  showFaults(items.get("faults") ?? {});
  tell(drops);
}

function showTargets(itwins) {
  const target = find("target");
  const wanted = [["", "a new iTwin for each file"], ...itwins.map(({ id, name }) => [id, `${name} (${id.slice(0, 8)})`])];
  if (JSON.stringify(wanted) === target.dataset.shown) return;
  const chosen = target.value;
  target.dataset.shown = JSON.stringify(wanted);
  target.replaceChildren(...wanted.map(([value, text]) => el("option", { value }, text)));
  target.value = wanted.some(([value]) => value === chosen) ? chosen : "";
}

function showTally(drops) {
  const counts = new Map();
  for (const { status } of drops) counts.set(status, (counts.get(status) ?? 0) + 1);
  find("tally").replaceChildren(...[...counts].sort().map(([status, count]) =>
    el("span", { className: "count", "data-status": status }, `${count} ${status}`)));
  find("older").hidden = !(drops[0]?.sequence > drops.length);
  find("older").textContent = `among the newest ${drops.length}; older ones are only in storage`;
}

function showFaults(faults) {
  const isHard = Object.entries(faults).some(([name, on]) => name !== "key" && on);
  document.body.classList.toggle("faulty", isHard);
  for (const box of find("faults").querySelectorAll("input")) box.checked = Boolean(faults[box.name]);
}

/** Highlights what is new, and announces it to screen readers. */
function tell(drops) {
  const news = drops.filter(({ key, status }) => told.get(key) !== status);
  for (const { key, status } of news) told.set(key, status);
  if (isOld || !news.length) return;
  for (const { key } of news) dropList.node(key).classList.add("fresh");
  find("news").textContent = news.map(({ name, status }) => `${name}: ${status}`).join(". ");
}

async function attempt(action) {
  const problem = find("problem");
  problem.hidden = true;
  try {
    await action();
  } catch (error) {
    problem.textContent = error.message;
    problem.hidden = false;
  }
}

/** Runs a slow action for each of `count` files, and shows the progress. */
async function attemptAll(count, action) {
  uploads.total += count;
  showUploads();
  let left = count;
  await attempt(() => action(() => {
    left -= 1;
    uploads.done += 1;
    showUploads();
  }));
  uploads.done += left; // files that were refused will not arrive
  if (uploads.done === uploads.total) Object.assign(uploads, { done: 0, total: 0 });
  showUploads();
}

function showUploads() {
  const { done, total } = uploads;
  find("uploads").hidden = total === 0;
  find("uploads").textContent = total === 1 ? "Writing to storage…" : `Writing to storage: ${done} of ${total}…`;
}

function chooseFor(id) {
  find("target").value = id;
  find("files").click();
}

/** Returns a command for a shell; no character in the URL could end the quotation. */
function commandFor(itwin) {
  const { blobUrl, signature } = items.get("storage");
  return `curl --fail --upload-file photo.jpg --header "x-ms-blob-type: BlockBlob" "${blobUrl}/${itwin}/photo.jpg?${signature}"`;
}

/** Creates the iTwin that a drop was meant for; `again` also drops the file again, if the app will not retry it. */
function makeItwin(key, again) {
  attempt(() => send("POST", `/api/drops/${encodeURIComponent(key)}/itwin${again ? "?again" : ""}`));
}

for (const id of ["files", "folder"]) {
  find(id).addEventListener("change", async ({ target }) => {
    const files = [...target.files].map((file) => [file.webkitRelativePath || file.name, file]);
    const itwin = find("target").value;
    await attemptAll(files.length, (advance) => dropFiles(files, itwin, advance));
    target.value = "";
  });
}

find("choose-folder").addEventListener("click", () => find("folder").click());

find("copy-connection").addEventListener("click", ({ target }) => copy(target, items.get("storage").connectionString));

find("new-itwin").addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(async () => {
    const body = JSON.stringify({ displayName: find("itwin-name").value });
    const { id } = await (await send("POST", "/api/itwins", body)).json();
    find("itwin-name").value = "";
    const target = find("target");
    if (![...target.options].some(({ value }) => value === id)) target.append(el("option", { value: id }, id));
    target.value = id;
  });
});

find("samples").addEventListener("click", () => attemptAll(1, () => send("POST", "/api/samples")));

find("faults").addEventListener("change", ({ target }) => {
  attempt(async () => {
    try {
      await send("PUT", `/api/faults/${target.name}`, JSON.stringify({ on: target.checked }));
    } catch (error) {
      showFaults(items.get("faults") ?? {});
      throw error;
    }
  });
});

const placeUnder = (event) => event.target.closest?.("[data-itwin]");

function markPlace(place) {
  for (const marked of document.querySelectorAll(".itwin.over")) if (marked !== place) marked.classList.remove("over");
  place?.classList.add("over");
}

addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dragging");
  markPlace(placeUnder(event));
});

addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("dragging");
});

addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dragging");
  markPlace(null);
  const itwin = placeUnder(event)?.dataset.itwin ?? find("target").value;
  attempt(async () => {
    const files = await droppedFiles(event.dataTransfer);
    await attemptAll(files.length, (advance) => dropFiles(files, itwin, advance));
  });
});

setInterval(showTimes, 250);
listen();
