"use strict";

// ---- masks: plain data, no page needed ------------------------------------------------------------------------------
// A mask is a Uint8Array of class indices, row after row; 255 = unknown. Places are in pixels of the mask and may be
// fractions. Every shape is drawn as indices here, so no edge is smoothed into a colour that is no class.

const UNKNOWN = 255;
const KEPT = 100; // steps that can be undone, of large masks fewer:
const KEPT_BYTES = 64 << 20;

/** Put a brush down once. A brush of odd width sits on a pixel, one of even width between pixels. */
function stamp(mask, [width, height], [x, y], { size, square }, value) {
  const middle = (place) => (size % 2 ? Math.floor(place) + 0.5 : Math.round(place));
  const cx = middle(x), cy = middle(y), reach = size / 2;
  const top = Math.max(0, Math.floor(cy - reach)), bottom = Math.min(height, Math.ceil(cy + reach));
  const left = Math.max(0, Math.floor(cx - reach)), right = Math.min(width, Math.ceil(cx + reach));
  for (let row = top; row < bottom; row += 1) {
    for (let column = left; column < right; column += 1) {
      const dx = column + 0.5 - cx, dy = row + 0.5 - cy;
      if (square || dx * dx + dy * dy <= reach * reach) mask[row * width + column] = value;
    }
  }
}

/** Draw with a brush from one place to another. */
function stroke(mask, dimensions, from, to, brush, value) {
  const steps = Math.max(1, Math.ceil(2 * Math.max(Math.abs(to[0] - from[0]), Math.abs(to[1] - from[1]))));
  for (let step = 0; step <= steps; step += 1) {
    const share = step / steps;
    stamp(mask, dimensions, [from[0] + share * (to[0] - from[0]), from[1] + share * (to[1] - from[1])], brush, value);
  }
}

/** Give the region around a place, all that is connected by sides and has one class, another class. */
function fill(mask, [width, height], [x, y], value) {
  const start = Math.floor(y) * width + Math.floor(x), old = mask[start];
  if (old === undefined || old === value || x < 0 || y < 0 || x >= width) return;
  const open = [start];
  mask[start] = value;
  while (open.length) {
    const place = open.pop(), column = place % width;
    const beside = [column > 0 ? place - 1 : -1, column < width - 1 ? place + 1 : -1, place - width, place + width];
    for (const next of beside) {
      if (next < 0 || next >= width * height || mask[next] !== old) continue;
      mask[next] = value;
      open.push(next);
    }
  }
}

/** A rectangle between two pixels, both of them in it. */
function rectangle(mask, [width, height], from, to, value) {
  const ends = (a, b, limit) => [Math.min(a, b), Math.max(a, b)].map((place) => Math.max(0, Math.min(limit - 1, Math.floor(place))));
  const [left, right] = ends(from[0], to[0], width), [top, bottom] = ends(from[1], to[1], height);
  for (let row = top; row <= bottom; row += 1) mask.fill(value, row * width + left, row * width + right + 1);
}

const same = (a, b) => a.length === b.length && a.every((value, place) => value === b[place]);

/** What can be undone: `keep` a mask before it changes; `undo` and `redo` take the present one and give another, or null. */
function makeHistory(pixels) {
  const kept = Math.max(8, Math.min(KEPT, Math.floor(KEPT_BYTES / pixels)));
  const past = [], future = [];
  const swap = (from, to, mask) => {
    if (!from.length) return null;
    to.push(mask.slice());
    return from.pop();
  };
  return {
    keep(mask) {
      past.push(mask.slice());
      if (past.length > kept) past.shift();
      future.length = 0;
    },
    undo: (mask) => swap(past, future, mask),
    redo: (mask) => swap(future, past, mask),
    get canUndo() { return past.length > 0; },
    get canRedo() { return future.length > 0; },
  };
}

/** Bytes of a style, as gsegkit.painting.Style.unpack reads them. */
function packedStyle({ seed, other, mix, regions }) {
  const view = new DataView(new ArrayBuffer(12 + 4 * regions.length));
  view.setUint32(0, seed, true);
  view.setUint32(4, other, true);
  view.setFloat32(8, mix, true);
  regions.forEach((region, place) => view.setUint32(12 + 4 * place, region ?? 0xffffffff, true));
  return new Uint8Array(view.buffer);
}

const toBase64 = (bytes) => btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
const fromBase64 = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
const rgb = (colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
