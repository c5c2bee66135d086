// Files that were dropped or chosen, folders with all that is in them.

// What systems put into folders by themselves.
const PASSED_OVER = /^(\.|Thumbs\.db$|DICOMDIR$)/;

export const isWanted = (file) => !PASSED_OVER.test(file.name) && file.size > 0;

async function below(entry) {
  if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (some.length === 0) break; // it gives a hundred at a time
    for (const inside of some) found.push(...(await below(inside)));
  }
  return found;
}

/** The files of a drop. To be called in its event, after which the browser forgets them. */
export async function dropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  const files = entries.length ? (await Promise.all(entries.map(below))).flat() : [...transfer.files];
  return files.filter(isWanted);
}
