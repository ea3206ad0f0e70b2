// The wording of the page.

export const STATUSES = {
  waiting: "It is in storage and has no result yet: it is being processed, or is waiting to be.",
  probe: "The preflight wrote it to check whether events arrive: the app's rejection shows that they do.",
  ignored: "The app ignores unfinished copies, system files and empty folders.",
  uploaded: "It was uploaded to the iTwin Platform.",
  rejected: "It cannot be used as it is; the uploader can fix that.",
  superseded: "A newer drop for the same iTwin has already been uploaded.",
  retrying: "It will be retried.",
  failed: "The app has stopped retrying, or has failed on it.",
};

const CHANGES = {
  "preview-used": "preview of a raw file",
  "depth-reduced": "reduced to 8 bits",
  resized: "scaled down",
  "colours-converted": "colours to RGB",
  "tone-mapped": "HDR to SDR",
  "profile-embedded": "colour profile added",
  oriented: "turned upright",
  cropped: "cropped to 5:1",
  padded: "padded to 5:1",
  flattened: "transparency to white",
  recompressed: "recompressed",
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

/** Returns the title of the picture that was made, and the text to show if there is none. */
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
  if (seconds < 100) return `attempt ${attempt} in ${seconds} s`;
  return `attempt ${attempt} in ${seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`}`;
}

export const stepWords = ({ httpStatus, code }) => [httpStatus && `HTTP ${httpStatus}`, code].filter(Boolean).join(" · ");
