// What things are called on the page.

export const STATUSES = {
  waiting: "It is in storage and has no result yet: it is being processed, or is waiting to be.",
  probe: "The preflight wrote it to see whether events arrive; that the app rejected it shows that they do.",
  ignored: "An unfinished copy, a system file or an empty folder: the app ignores it.",
  uploaded: "It was uploaded.",
  rejected: "The uploader can fix it.",
  superseded: "A newer drop of the same iTwin is already up.",
  retrying: "It will be tried again.",
  failed: "The app has stopped retrying, or has failed on it.",
};

const CHANGES = {
  "preview-used": "preview of a raw file",
  "depth-reduced": "16 bits to 8",
  resized: "made smaller",
  "colours-converted": "colours to RGB",
  "tone-mapped": "HDR to SDR",
  "profile-embedded": "colour profile added",
  oriented: "turned upright",
  cropped: "cropped to 5:1",
  padded: "padded to 5:1",
  flattened: "put on white",
  recompressed: "compressed again",
  converted: "converted",
  "metadata-removed": "metadata removed",
};

export const changeWords = (change) => CHANGES[change] ?? change.replaceAll("-", " ");

export function bytesWords(count) {
  if (count === null || count === undefined) return "";
  if (count < 1000) return `${count} B`;
  if (count < 999_500) return `${(count / 1000).toFixed(count < 9950 ? 1 : 0)} kB`;
  return `${(count / 1_000_000).toFixed(count < 9_950_000 ? 2 : 1)} MB`;
}

export const typeWords = (mediaType) => (mediaType ?? "").replace("image/", "").toUpperCase();

export function extentWords(part) {
  const pixels = part?.width ? `${part.width} × ${part.height}` : "";
  return [typeWords(part?.mediaType), pixels, bytesWords(part?.bytes)].filter(Boolean).join(" · ");
}

/** What the picture that was made is called, and what is said in its place where there is none. */
export function afterWords(status) {
  if (status === "uploaded") return ["Sent", "not kept"];
  return ["Prepared", status === "retrying" ? "not sent yet" : "not uploaded"];
}

const CLOCK = { hour: "2-digit", minute: "2-digit", second: "2-digit" };
const DATE = { day: "numeric", month: "short", year: "numeric" };

export function timeWords(moment) {
  const date = new Date(moment);
  const isOfToday = date.toDateString() === new Date().toDateString();
  return date.toLocaleString([], isOfToday ? CLOCK : { ...DATE, ...CLOCK });
}

export function dueWords(moment, attempt) {
  const seconds = Math.ceil((new Date(moment) - Date.now()) / 1000);
  if (seconds <= 0) return "retrying now";
  if (seconds < 100) return `try ${attempt} in ${seconds} s`;
  return `try ${attempt} in ${seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`}`;
}

export const stepWords = ({ httpStatus, code }) => [httpStatus && `HTTP ${httpStatus}`, code].filter(Boolean).join(" · ");
