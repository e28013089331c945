// ---- zip files of masks: written as they are, read also where they were packed ---------------------------------------

const LARGEST_ZIP = 64 << 20;
const MOST_FILES = 2000;

function record(signature, fields, ...parts) {
  const view = new DataView(new ArrayBuffer(4 + fields.reduce((sum, [bytes]) => sum + bytes, 0)));
  let at = 4;
  view.setUint32(0, signature, true);
  for (const [bytes, value] of fields) {
    if (bytes === 2) view.setUint16(at, value, true);
    else view.setUint32(at, value, true);
    at += bytes;
  }
  return joined([new Uint8Array(view.buffer), ...parts]);
}

/** A zip of {name, bytes}; its files have the date 1980-01-01. */
function zipOf(files) {
  const locals = [], directory = [];
  let offset = 0;
  for (const { name, bytes } of files) {
    const text = new TextEncoder().encode(name), crc = crcOf(bytes);
    const common = [[2, 20], [2, 0x0800], [2, 0], [2, 0], [2, 0x21], [4, crc], [4, bytes.length], [4, bytes.length], [2, text.length], [2, 0]];
    const local = record(0x04034b50, common, text, bytes); // version, names in UTF-8, stored, time, date, sizes
    directory.push(record(0x02014b50, [[2, 20], ...common, [2, 0], [2, 0], [2, 0], [4, 0], [4, offset]], text));
    locals.push(local);
    offset += local.length;
  }
  const list = joined(directory);
  return joined([...locals, list, record(0x06054b50, [[2, 0], [2, 0], [2, files.length], [2, files.length], [4, list.length], [4, offset], [2, 0]])]);
}

/** The files in a zip, {name, bytes}; those that are no PNG are left out. An Error's message lacks its subject. */
async function unzipped(bytes) {
  try {
    return await entriesOf(bytes);
  } catch (error) {
    throw error instanceof RangeError ? new Error("is damaged") : error;
  }
}

async function entriesOf(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), found = [];
  let end = bytes.length - 22;
  while (end >= 0 && view.getUint32(end, true) !== 0x06054b50) end -= 1;
  if (end < 0) throw new Error("is not a zip");
  const count = view.getUint16(end + 10, true);
  if (count > MOST_FILES) throw new Error(`holds ${count} files; at most ${MOST_FILES} are read`);
  for (let entry = 0, at = view.getUint32(end + 16, true); entry < count; entry += 1) {
    if (view.getUint32(at, true) !== 0x02014b50) throw new Error("is damaged");
    const [method, size, length, start] = [view.getUint16(at + 10, true), view.getUint32(at + 20, true), view.getUint16(at + 28, true), view.getUint32(at + 42, true)];
    const name = new TextDecoder().decode(bytes.subarray(at + 46, at + 46 + length));
    at += 46 + length + view.getUint16(at + 30, true) + view.getUint16(at + 32, true);
    if (!/\.png$/i.test(name)) continue;
    if (method !== 0 && method !== 8) throw new Error("is packed in a way that is not read");
    const from = start + 30 + view.getUint16(start + 26, true) + view.getUint16(start + 28, true);
    const packed = bytes.subarray(from, from + size);
    const whole = method ? await drained(through(packed, new DecompressionStream("deflate-raw")), LARGEST_FILE).catch(() => null) : packed;
    if (!whole || packed.length !== size) throw new Error("is damaged");
    found.push({ name, bytes: whole });
  }
  return found;
}
