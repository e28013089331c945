// ---- PNG files: masks as 8-bit indices with a palette, pictures as RGB; plain bytes ---------------------------------
// A canvas writes RGBA alone, and browsers that hide their user alter what is read back from one.

const SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10];
const LARGEST_FILE = 16 << 20;
const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value;
});

function crcOf(bytes) {
  let value = 0xffffffff;
  for (const byte of bytes) value = CRC_TABLE[(value ^ byte) & 255] ^ (value >>> 8);
  return (value ^ 0xffffffff) >>> 0;
}

function joined(parts) {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  parts.reduce((at, part) => { all.set(part, at); return at + part.length; }, 0);
  return all;
}

function chunk(type, content) {
  const named = joined([Uint8Array.from(type, (letter) => letter.charCodeAt(0)), content]);
  const numbers = new DataView(new ArrayBuffer(8));
  numbers.setUint32(0, content.length);
  numbers.setUint32(4, crcOf(named));
  return joined([new Uint8Array(numbers.buffer, 0, 4), named, new Uint8Array(numbers.buffer, 4, 4)]);
}

/** The bytes that a stream gives; at most `limit` of them, else null. */
async function drained(stream, limit) {
  const reader = stream.getReader(), parts = [];
  for (let size = 0; ;) {
    const { done, value } = await reader.read();
    if (done) return joined(parts);
    parts.push(value);
    size += value.length;
    if (size > limit) {
      reader.cancel().catch(() => undefined);
      return null;
    }
  }
}

const through = (bytes, stream) => new Blob([bytes]).stream().pipeThrough(stream);

async function png([width, height], colourType, channels, samples, palette) {
  const header = new DataView(new ArrayBuffer(13)), row = channels * width;
  [[0, width], [4, height]].forEach(([at, value]) => header.setUint32(at, value));
  [8, colourType, 0, 0, 0].forEach((value, place) => header.setUint8(8 + place, value));
  const lines = new Uint8Array(height * (row + 1)); // each line begins with a 0: it is stored as it is
  for (let y = 0; y < height; y += 1) lines.set(samples.subarray(y * row, (y + 1) * row), y * (row + 1) + 1);
  const packed = await drained(through(lines, new CompressionStream("deflate")), Infinity);
  const chunks = [chunk("IHDR", new Uint8Array(header.buffer)), palette ? chunk("PLTE", palette) : new Uint8Array(0)];
  return joined([Uint8Array.from(SIGNATURE), ...chunks, chunk("IDAT", packed), chunk("IEND", new Uint8Array(0))]);
}

/** An 8-bit PNG whose numbers are the classes. */
function maskPng(mask, dimensions, colours) {
  const palette = new Uint8Array(768).fill(255); // 255, unknown, is white
  colours.forEach((colour, place) => palette.set(rgb(colour), 3 * place));
  return png(dimensions, 3, 1, mask, palette);
}

/** A PNG of RGBA bytes, without the opacity. */
const picturePng = (pixels, dimensions) => png(dimensions, 2, 3, pixels.filter((_, place) => place % 4 < 3), null);

/** Undo what a PNG did to its lines before they were packed; one byte before stands for each sample. */
function unfiltered(lines, height, row) {
  const found = new Uint8Array(height * row);
  for (let y = 0; y < height; y += 1) {
    const filter = lines[y * (row + 1)];
    if (filter > 4) throw new Error("is damaged");
    for (let x = 0; x < row; x += 1) {
      const at = y * row + x;
      const left = x ? found[at - 1] : 0, up = y ? found[at - row] : 0, corner = x && y ? found[at - row - 1] : 0;
      const paeth = () => {
        const guess = left + up - corner, [a, b, c] = [left, up, corner].map((one) => Math.abs(guess - one));
        return a <= b && a <= c ? left : b <= c ? up : corner;
      };
      const guess = [() => 0, () => left, () => up, () => (left + up) >> 1, paeth][filter]();
      found[at] = lines[y * (row + 1) + x + 1] + guess;
    }
  }
  return found;
}

/** Header and packed lines of a PNG whose samples are indices or grey values. */
function pngParts(bytes) {
  if (!SIGNATURE.every((byte, place) => bytes[place] === byte)) throw new Error("is not a PNG");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), packed = [];
  const width = view.getUint32(16), height = view.getUint32(20);
  const [depth, colourType, , , interlace] = bytes.subarray(24, 29);
  for (let at = 8; at + 12 <= bytes.length;) {
    const length = view.getUint32(at), type = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    if (type === "IDAT") packed.push(bytes.subarray(at + 8, at + 8 + length));
    at += 12 + length;
  }
  return { width, height, depth, colourType, interlace, packed: joined(packed) };
}

/** The mask in a PNG of indices. An Error's message is a sentence without its subject: "is not a PNG". */
async function readMaskPng(bytes, [width, height], count) {
  if (bytes.length > LARGEST_FILE) throw new Error("is too large to be a mask");
  let found;
  try {
    found = pngParts(bytes);
  } catch (error) {
    throw error instanceof RangeError ? new Error("is damaged") : error;
  }
  const { depth, colourType, interlace } = found;
  if (found.width !== width || found.height !== height) throw new Error(`has ${found.width} x ${found.height} pixels; masks here have ${width} x ${height}`);
  if (colourType !== 3 && colourType !== 0) throw new Error("holds colours, not classes; save it as an 8-bit index PNG");
  if (depth > 8 || interlace) throw new Error("is stored in another way than masks are; save it as an 8-bit index PNG");
  const row = Math.ceil((width * depth) / 8);
  const lines = await drained(through(found.packed, new DecompressionStream("deflate")), height * (row + 1)).catch(() => null);
  if (lines?.length !== height * (row + 1)) throw new Error("is damaged");
  const samples = unfiltered(lines, height, row), mask = new Uint8Array(width * height);
  mask.forEach((_, place) => {
    const x = place % width, at = Math.floor(place / width) * row + Math.floor((x * depth) / 8);
    mask[place] = (samples[at] >> (8 - depth - ((x * depth) % 8))) & (2 ** depth - 1);
  });
  const strange = mask.find((value) => value >= count && value !== UNKNOWN);
  if (strange !== undefined) throw new Error(`holds the class ${strange}; here are 0 to ${count - 1}, and ${UNKNOWN} for unknown`);
  return mask;
}
