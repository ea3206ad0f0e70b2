// How files get into storage: picked, or dropped with all the folders that they lie in.

const MAX_TOLD = 10;

/** Returns [name, file] for everything that was dropped; a folder's files keep their paths. */
export async function droppedFiles(transfer) {
  // Entries must be taken before anything is awaited: the list is emptied then.
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return [...transfer.files].map((file) => [file.name, file]);
  return (await Promise.all(entries.map((entry) => filesOf(entry, "")))).flat();
}

async function filesOf(entry, folder) {
  const name = folder + entry.name;
  if (entry.isFile) return [[name, await new Promise((resolve, reject) => { entry.file(resolve, reject); })]];
  const reader = entry.createReader();
  const found = [];
  for (;;) { // a reader hands out some hundred at a time
    const some = await new Promise((resolve, reject) => { reader.readEntries(resolve, reject); });
    if (!some.length) return found;
    found.push(...(await Promise.all(some.map((child) => filesOf(child, `${name}/`)))).flat());
  }
}

/** Writes the files one after the other, for the newest wins; `advance` is told of each. Fails in the end where any was refused. */
export async function dropFiles(files, itwin, advance) {
  const refused = [];
  for (const [name, file] of files) {
    try {
      await file.slice(0, 1).arrayBuffer(); // tells a file that cannot be read from a cloud that does not respond
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
