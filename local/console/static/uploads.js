// Writes files to storage: chosen ones, or dropped ones with their folders.

const MAX_TOLD = 10;

/** Returns [name, file] for everything that was dropped; a folder's files keep their paths. */
export async function droppedFiles(transfer) {
  // Entries must be read before anything is awaited, because the list is emptied then.
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return [...transfer.files].map((file) => [file.name, file]);
  return (await Promise.all(entries.map((entry) => filesOf(entry, "")))).flat();
}

async function filesOf(entry, folder) {
  const name = folder + entry.name;
  if (entry.isFile) return [[name, await new Promise((resolve, reject) => { entry.file(resolve, reject); })]];
  const reader = entry.createReader();
  const found = [];
  for (;;) { // a reader returns about a hundred entries at a time
    const some = await new Promise((resolve, reject) => { reader.readEntries(resolve, reject); });
    if (!some.length) return found;
    found.push(...(await Promise.all(some.map((child) => filesOf(child, `${name}/`)))).flat());
  }
}

/** Writes the files one after the other, as the newest wins; calls `advance` for each. Throws at the end if any was refused. */
export async function dropFiles(files, itwin, advance) {
  const refused = [];
  for (const [name, file] of files) {
    try {
      await file.slice(0, 1).arrayBuffer(); // fails for an unreadable file, which is not to be mistaken for a cloud that is down
      await send("POST", `/api/drops?${new URLSearchParams({ itwin, name })}`, file);
    } catch (error) {
      refused.push(`${name}: ${error.message}`);
    }
    advance();
  }
  const untold = refused.splice(MAX_TOLD).length;
  if (untold) refused.push(`and ${untold} more`);
  if (refused.length) throw new Error(refused.join("\n"));
}

export async function send(method, address, body) {
  const response = await fetch(address, { method, body }).catch(() => { throw new Error("The local cloud does not respond."); });
  if (!response.ok) throw new Error(await response.text());
  return response;
}
