// ---- the worker: decodes a network, paints what it is asked for -----------------------------------------------------

/** Float16 numbers in base64, times their scale. Numbers below 6e-5 are subnormal: they have no leading one. */
function decoded({ data, scale }) {
  const text = atob(data), values = new Float32Array(text.length / 2);
  for (let i = 0; i < values.length; i += 1) {
    const bits = text.charCodeAt(2 * i) | (text.charCodeAt(2 * i + 1) << 8);
    const exponent = (bits >> 10) & 31, fraction = bits & 1023;
    const size = exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : fraction * 2 ** -24;
    values[i] = (bits & 0x8000 ? -size : size) * scale;
  }
  return values;
}

/** What paints: (mask, style) => Float32Array [3, H, W] in [-1, 1]. `makeNetwork` is the painter's own script. */
function painterOf(network) {
  const tensors = Object.fromEntries(Object.entries(network.tensors).map(([name, tensor]) => [name, decoded(tensor)]));
  const paint = makeNetwork(tensors, network.facts);
  return (mask, style) => paint(mask, latentsOf(style, network.latentDim));
}

/** [3, H, W] in [-1, 1] as bytes of red, green, blue and opacity, rounded as gsegkit does. */
function rgbaOf(pixels) {
  const count = pixels.length / 3, bytes = new Uint8ClampedArray(4 * count);
  for (let i = 0; i < count; i += 1) {
    for (let channel = 0; channel < 3; channel += 1) bytes[4 * i + channel] = Math.round((pixels[channel * count + i] + 1) * 127.5);
    bytes[4 * i + 3] = 255;
  }
  return bytes;
}

function serve() {
  let paint = null;
  onmessage = ({ data: { network, ticket, mask, style } }) => {
    if (network) {
      paint = painterOf(network);
      return;
    }
    const pixels = rgbaOf(paint(mask, style));
    postMessage({ ticket, pixels }, [pixels.buffer]);
  };
}

if (typeof module === "undefined") serve();
else module.exports = { latentOf, latentsOf, decoded, painterOf, rgbaOf };
