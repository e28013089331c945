// ---- the network of networks.py in plain JavaScript -----------------------------------------------------------------
// Batch norms are folded into tables and styles, spectral norms into the weights. A map is a Float32Array, channel after
// channel. What a 3 x 3 convolution reads has a border of zeros, so that its inner loop needs no test.

const TOGETHER = 4; // output channels of one inner loop
const CHUNK = 512; // numbers of one inner loop: they stay in the first cache

/** Weights [outputs, inputs, taps] -> [outputs / 4][inputs][taps][4]: in the order in which they are read. */
function packedWeights(weight, outputs, taps) {
  const inputs = weight.length / outputs / taps, groups = Math.ceil(outputs / TOGETHER);
  const packed = new Float32Array(groups * inputs * taps * TOGETHER);
  for (let o = 0; o < outputs; o += 1) {
    for (let i = 0; i < inputs * taps; i += 1) {
      packed[(Math.floor(o / TOGETHER) * inputs * taps + i) * TOGETHER + (o % TOGETHER)] = weight[o * inputs * taps + i];
    }
  }
  return { packed, inputs, outputs };
}

/** A 3 x 3 convolution of a map with a border, [inputs, h + 2, w + 2] -> [outputs, h, w]. */
function conv3({ packed, inputs, outputs, bias }, x, h, w) {
  const result = new Float32Array(outputs * h * w), wide = w + 2, rows = Math.max(1, Math.floor(CHUNK / wide));
  const sums = Array.from({ length: TOGETHER }, () => new Float32Array(rows * wide)), [s0, s1, s2, s3] = sums;
  for (let group = 0; group * TOGETHER < outputs; group += 1) {
    for (let top = 0; top < h; top += rows) {
      const height = Math.min(rows, h - top), count = height * wide - 2; // the last two of a row are between the rows
      sums.forEach((sum, o) => sum.fill(bias[group * TOGETHER + o] ?? 0));
      for (let i = 0; i < inputs; i += 1) {
        for (let ky = 0; ky < 3; ky += 1) {
          const at = ((group * inputs + i) * 9 + 3 * ky) * TOGETHER, from = (i * (h + 2) + top + ky) * wide;
          const a0 = packed[at], a1 = packed[at + 1], a2 = packed[at + 2], a3 = packed[at + 3];
          const b0 = packed[at + 4], b1 = packed[at + 5], b2 = packed[at + 6], b3 = packed[at + 7];
          const c0 = packed[at + 8], c1 = packed[at + 9], c2 = packed[at + 10], c3 = packed[at + 11];
          let left = x[from], middle = x[from + 1];
          for (let p = 0; p < count; p += 1) {
            const right = x[from + p + 2];
            s0[p] += a0 * left + b0 * middle + c0 * right;
            s1[p] += a1 * left + b1 * middle + c1 * right;
            s2[p] += a2 * left + b2 * middle + c2 * right;
            s3[p] += a3 * left + b3 * middle + c3 * right;
            left = middle;
            middle = right;
          }
        }
      }
      for (let o = 0; o < TOGETHER && group * TOGETHER + o < outputs; o += 1) {
        for (let y = 0; y < height; y += 1) {
          result.set(sums[o].subarray(y * wide, y * wide + w), ((group * TOGETHER + o) * h + top + y) * w);
        }
      }
    }
  }
  return result;
}

/** A 1 x 1 convolution without bias, [inputs, n] -> [outputs, n]. */
function conv1({ packed, inputs, outputs }, x, n) {
  const result = new Float32Array(outputs * n);
  const sums = Array.from({ length: TOGETHER }, () => new Float32Array(Math.min(n, CHUNK))), [s0, s1, s2, s3] = sums;
  for (let group = 0; group * TOGETHER < outputs; group += 1) {
    for (let start = 0; start < n; start += CHUNK) {
      const count = Math.min(CHUNK, n - start);
      sums.forEach((sum) => sum.fill(0));
      for (let i = 0; i < inputs; i += 1) {
        const at = (group * inputs + i) * TOGETHER, from = i * n + start;
        const a = packed[at], b = packed[at + 1], c = packed[at + 2], d = packed[at + 3];
        for (let p = 0; p < count; p += 1) {
          const value = x[from + p];
          s0[p] += a * value;
          s1[p] += b * value;
          s2[p] += c * value;
          s3[p] += d * value;
        }
      }
      for (let o = 0; o < TOGETHER && group * TOGETHER + o < outputs; o += 1) {
        result.set(sums[o].subarray(0, count), (group * TOGETHER + o) * n + start);
      }
    }
  }
  return result;
}

/** Twice as high and wide, nearest neighbour. */
function doubled(x, channels, h, w) {
  const result = new Float32Array(4 * channels * h * w);
  for (let row = 0; row < channels * h; row += 1) {
    const to = 4 * row * w;
    for (let p = 0; p < w; p += 1) {
      result[to + 2 * p] = x[row * w + p];
      result[to + 2 * p + 1] = x[row * w + p];
    }
    result.copyWithin(to + 2 * w, to, to + 2 * w);
  }
  return result;
}

function leaky(x, slope, h, w) {
  const wide = w + 2, result = new Float32Array((x.length / (h * w)) * (h + 2) * wide);
  for (let row = 0; row < x.length / w; row += 1) {
    const to = (row + 2 * Math.floor(row / h) + 1) * wide + 1;
    for (let p = 0; p < w; p += 1) {
      const value = x[row * w + p];
      result[to + p] = value > 0 ? value : slope * value;
    }
  }
  return result;
}

function makeNetwork(tensors, facts) {
  const { height, width, levels, coarsest: [startHeight, startWidth], num_classes: unknown, slope } = facts;
  const labels = unknown + 1;
  const conv = (name, taps, outputs) => {
    const bias = tensors[`${name}.bias`] ?? [];
    return { ...packedWeights(tensors[`${name}.weight`], outputs ?? bias.length, taps), bias };
  };
  const norm = (name) => ({ table: tensors[`${name}.table.weight`], style: tensors[`${name}.style.weight`], bias: tensors[`${name}.style.bias`] });
  const block = (name) => {
    const parts = { norm0: norm(`${name}.norm_0`), norm1: norm(`${name}.norm_1`), conv0: conv(`${name}.conv_0`, 9), conv1: conv(`${name}.conv_1`, 9) };
    if (`${name}.conv_s.weight` in tensors) Object.assign(parts, { norms: norm(`${name}.norm_s`), convs: conv(`${name}.conv_s`, 1, parts.conv1.outputs) });
    return parts;
  };
  const blocks = Array.from({ length: levels + 1 }, (_, level) => block(`blocks.${level}`));
  const first = conv("first", 9), last = conv("last", 9);

  /** The classes in the middle of each step x step square, edges repeated; 255 becomes the last label. */
  function labelMap(mask, step, h, w) {
    const map = new Uint8Array(h * w);
    for (let y = 0; y < h; y += 1) {
      const row = Math.min(y * step + (step >> 1), height - 1) * width;
      for (let x = 0; x < w; x += 1) map[y * w + x] = Math.min(mask[row + Math.min(x * step + (step >> 1), width - 1)], unknown);
    }
    return map;
  }

  /** Scale and shift of every label and channel: its column of the table, and its latent's part. */
  function modulation({ table, style, bias }, latents, dim) {
    const values = new Float32Array(labels * bias.length);
    for (let label = 0; label < labels; label += 1) {
      const from = label === unknown ? 0 : (label + 1) * dim;
      for (let c = 0; c < bias.length; c += 1) {
        let sum = bias[c] + table[c * labels + label];
        for (let d = 0; d < dim; d += 1) sum += style[c * dim + d] * latents[from + d];
        values[label * bias.length + c] = sum;
      }
    }
    return values;
  }

  /** x * (1 + scale) + shift, by the label of each pixel. */
  function modulated(x, part, map, latents, dim) {
    const values = modulation(part, latents, dim), channels = part.bias.length / 2, n = map.length;
    const result = new Float32Array(x.length), scale = new Float32Array(labels), shift = new Float32Array(labels);
    for (let c = 0; c < channels; c += 1) {
      for (let label = 0; label < labels; label += 1) {
        scale[label] = 1 + values[label * 2 * channels + c];
        shift[label] = values[(label * 2 + 1) * channels + c];
      }
      for (let p = 0; p < n; p += 1) result[c * n + p] = x[c * n + p] * scale[map[p]] + shift[map[p]];
    }
    return result;
  }

  /** From latent and coarse mask to the coarsest map. */
  function begun(map, latents, dim) {
    const bordered = new Float32Array(labels * (startHeight + 2) * (startWidth + 2));
    map.forEach((label, p) => {
      bordered[(label * (startHeight + 2) + Math.floor(p / startWidth) + 1) * (startWidth + 2) + (p % startWidth) + 1] = 1;
    });
    const weight = tensors["start.weight"], bias = tensors["start.bias"];
    return conv3(first, bordered, startHeight, startWidth).map((value, place) => {
      let sum = value + bias[place];
      for (let d = 0; d < dim; d += 1) sum += weight[place * dim + d] * latents[d];
      return sum;
    });
  }

  return (mask, latents) => {
    const dim = latents.length / (unknown + 1);
    let h = startHeight, w = startWidth;
    let x = begun(labelMap(mask, 2 ** levels, h, w), latents, dim);
    blocks.forEach((part, level) => {
      if (level) {
        x = doubled(x, part.conv0.inputs, h, w);
        h *= 2;
        w *= 2;
      }
      const map = labelMap(mask, 2 ** (levels - level), h, w);
      const beside = part.convs ? conv1(part.convs, modulated(x, part.norms, map, latents, dim), h * w) : x;
      const inner = conv3(part.conv0, leaky(modulated(x, part.norm0, map, latents, dim), slope, h, w), h, w);
      x = conv3(part.conv1, leaky(modulated(inner, part.norm1, map, latents, dim), slope, h, w), h, w);
      x.forEach((value, place) => { x[place] = value + beside[place]; });
    });
    const picture = conv3(last, leaky(x, slope, h, w), h, w), cut = new Float32Array(3 * height * width);
    for (let row = 0; row < 3 * height; row += 1) {
      const from = (Math.floor(row / height) * h + (row % height)) * w;
      for (let p = 0; p < width; p += 1) cut[row * width + p] = Math.tanh(picture[from + p]);
    }
    return cut;
  };
}
