// Several files as one zip archive, stored as they are: DICOM is often packed already.

const TABLE = Uint32Array.from({ length: 256 }, (_, number) => {
  for (let bit = 0; bit < 8; bit += 1) number = number & 1 ? (number >>> 1) ^ 0xedb88320 : number >>> 1;
  return number >>> 0;
});

function crc32(content) {
  let sum = 0xffffffff;
  for (let place = 0; place < content.length; place += 1) sum = (sum >>> 8) ^ TABLE[(sum ^ content[place]) & 255];
  return (sum ^ 0xffffffff) >>> 0;
}

/** Little-endian numbers: pairs of a value and its bytes, 2 or 4. */
function packed(...fields) {
  const view = new DataView(new ArrayBuffer(fields.reduce((length, [, width]) => length + width, 0)));
  let place = 0;
  for (const [value, width] of fields) {
    if (width === 2) view.setUint16(place, value, true);
    else view.setUint32(place, value, true);
    place += width;
  }
  return new Uint8Array(view.buffer);
}

// Version 2.0, no flags, stored, the first of January 1980.
const HEAD = [[20, 2], [0, 2], [0, 2], [0, 2], [33, 2]];

/**
 * Pack files. Members are numbered, so that no name of a file, which may be a patient's, is sent.
 * @param {File[]} files at most 65,535, of less than 4 GB together.
 * @returns {Promise<Blob>}
 */
export async function zip(files) {
  const parts = [];
  const index = [];
  let place = 0;
  for (const [number, file] of files.entries()) {
    const content = new Uint8Array(await file.arrayBuffer());
    const name = new TextEncoder().encode(`file_${String(number + 1).padStart(5, "0")}`);
    const about = [...HEAD, [crc32(content), 4], [content.length, 4], [content.length, 4], [name.length, 2], [0, 2]];
    parts.push(packed([0x04034b50, 4], ...about), name, file);
    index.push(packed([0x02014b50, 4], [20, 2], ...about, [0, 2], [0, 2], [0, 2], [0, 4], [place, 4]), name);
    place += 30 + name.length + content.length;
  }
  const length = index.reduce((sum, part) => sum + part.length, 0);
  const end = packed([0x06054b50, 4], [0, 2], [0, 2], [files.length, 2], [files.length, 2], [length, 4], [place, 4], [0, 2]);
  return new Blob([...parts, ...index, end], { type: "application/zip" });
}
