// ---- latents: the numbers that gsegkit.painting.Painter.latents draws -----------------------------------------------
// A seed's name is hashed (SHA-256), the hash seeds a Mersenne twister, and polar pairs of its numbers are normal.

const ROUNDS = (() => {
  const roots = { h: [], k: [] };
  for (let number = 2; roots.k.length < 64; number += 1) {
    let prime = true;
    for (let factor = 2; factor * factor <= number; factor += 1) prime &&= number % factor !== 0;
    if (!prime) continue;
    const fraction = (value) => Math.floor((value - Math.floor(value)) * 2 ** 32);
    if (roots.h.length < 8) roots.h.push(fraction(Math.sqrt(number)));
    roots.k.push(fraction(Math.cbrt(number)));
  }
  return roots;
})();

/** SHA-256 of a short text of plain letters (at most 55): eight numbers of 32 bits. */
function hashOf(text) {
  const words = new Uint32Array(64), state = Uint32Array.from(ROUNDS.h);
  const put = (byte, place) => { words[place >> 2] |= byte << (24 - 8 * (place & 3)); };
  [...text].forEach((letter, place) => put(letter.charCodeAt(0), place));
  put(0x80, text.length);
  words[15] = 8 * text.length;
  const turn = (value, by) => (value >>> by) | (value << (32 - by));
  for (let i = 16; i < 64; i += 1) {
    const a = words[i - 15], b = words[i - 2];
    const first = turn(a, 7) ^ turn(a, 18) ^ (a >>> 3), second = turn(b, 17) ^ turn(b, 19) ^ (b >>> 10);
    words[i] = words[i - 16] + first + words[i - 7] + second;
  }
  let [a, b, c, d, e, f, g, h] = state;
  for (let i = 0; i < 64; i += 1) {
    const first = h + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + ((e & f) ^ (~e & g)) + ROUNDS.k[i] + words[i];
    const second = (turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
    [h, g, f, e, d, c, b, a] = [g, f, e, (d + first) | 0, c, b, a, (first + second) | 0];
  }
  [a, b, c, d, e, f, g, h].forEach((value, place) => { state[place] += value; });
  return state;
}

/** A Mersenne twister (MT19937) that is seeded by a list of numbers; it gives numbers in [0, 1) of 53 bits. */
function twister(key) {
  const state = new Uint32Array(624);
  const mixed = (place, factor) => {
    const before = state[place - 1];
    return Math.imul(before ^ (before >>> 30), factor);
  };
  state[0] = 19650218;
  for (let i = 1; i < 624; i += 1) state[i] = mixed(i, 1812433253) + i;
  let place = 1;
  const onwards = () => {
    place += 1;
    if (place === 624) {
      state[0] = state[623];
      place = 1;
    }
  };
  for (let i = 0; i < 624; i += 1) {
    state[place] = (state[place] ^ mixed(place, 1664525)) + key[i % key.length] + (i % key.length);
    onwards();
  }
  for (let i = 0; i < 623; i += 1) {
    state[place] = (state[place] ^ mixed(place, 1566083941)) - place;
    onwards();
  }
  state[0] = 0x80000000;
  let next = 624;

  function word() {
    if (next === 624) {
      for (let i = 0; i < 624; i += 1) {
        const joined = (state[i] & 0x80000000) | (state[(i + 1) % 624] & 0x7fffffff);
        state[i] = state[(i + 397) % 624] ^ (joined >>> 1) ^ (joined & 1 ? 0x9908b0df : 0);
      }
      next = 0;
    }
    let value = state[next];
    next += 1;
    value ^= value >>> 11;
    value ^= (value << 7) & 0x9d2c5680;
    value ^= (value << 15) & 0xefc60000;
    return (value ^ (value >>> 18)) >>> 0;
  }

  return () => {
    const high = word() >>> 5, low = word() >>> 6;
    return (high * 67108864 + low) / 9007199254740992;
  };
}

/** The latent of a seed: `count` standard normals, Float32Array. */
function latentOf(seed, count) {
  const bytes = new DataView(new ArrayBuffer(16));
  hashOf(`${seed}:latent`).slice(0, 4).forEach((value, place) => bytes.setUint32(4 * place, value)); // big-endian
  const random = twister([0, 4, 8, 12].map((place) => bytes.getUint32(place, true)));
  const normals = new Float32Array(count);
  for (let i = 0; i < count; i += 2) {
    let x, y, square;
    do {
      x = 2 * random() - 1;
      y = 2 * random() - 1;
      square = x * x + y * y;
    } while (square >= 1 || square === 0);
    const stretch = Math.sqrt((-2 * Math.log(square)) / square);
    normals[i] = stretch * y;
    if (i + 1 < count) normals[i + 1] = stretch * x;
  }
  return normals;
}

/** Latents of a style, [1 + K, count]: the picture's own, then one for each class; see gsegkit.painting.latents_of. */
function latentsOf({ seed, other, mix, regions }, count) {
  const rows = new Float32Array((1 + regions.length) * count);
  const own = latentOf(seed, count);
  if (mix) {
    const second = latentOf(other, count), a = Math.fround(Math.cos((mix * Math.PI) / 2)), b = Math.fround(Math.sin((mix * Math.PI) / 2));
    own.forEach((value, place) => { own[place] = a * value + b * second[place]; });
  }
  [null, ...regions].forEach((region, row) => rows.set(region === null ? own : latentOf(region, count), row * count));
  return rows;
}
