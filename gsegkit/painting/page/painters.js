// ---- what paints: {paint(mask, style) => Promise of RGBA bytes}, once by a worker, once by the server ----------------

/** The network in a worker of its own, so that the page never waits for it. */
function workerPainter(source, network) {
  const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
  const worker = new Worker(url), waiting = new Map();
  let ticket = 0;
  worker.onmessage = ({ data }) => {
    waiting.get(data.ticket)?.resolve(data.pixels);
    waiting.delete(data.ticket);
  };
  worker.onerror = (event) => {
    event.preventDefault();
    for (const one of waiting.values()) one.reject(new Error(event.message || "the network could not be started"));
    waiting.clear();
  };
  worker.postMessage({ network });
  return {
    paint(mask, style) {
      ticket += 1;
      worker.postMessage({ ticket, mask, style });
      return new Promise((resolve, reject) => waiting.set(ticket, { resolve, reject }));
    },
  };
}

/** Pictures by POST /paint: a byte a pixel and the packed style in, three bytes a pixel out. */
function servedPainter(token, [width, height]) {
  const headers = { [TOKEN]: token, "Content-Type": "application/octet-stream" };
  return {
    async paint(mask, style) {
      const answer = await asked("paint", { method: "POST", headers, body: joined([mask, packedStyle(style)]) });
      const bytes = new Uint8Array(await answer.arrayBuffer()), pixels = new Uint8ClampedArray(4 * width * height).fill(255);
      if (bytes.length !== 3 * width * height) throw new Error("the server sent no picture");
      bytes.forEach((byte, place) => { pixels[4 * Math.floor(place / 3) + (place % 3)] = byte; });
      return pixels;
    },
  };
}

/** {data, painter}: out of the page itself, else from the server that sent it. */
async function opened() {
  const data = inside("data"), network = inside("network");
  if (data) return { data, painter: workerPainter(network.script, network) };
  const token = keyOf(location);
  const model = await (await asked("model", { headers: { [TOKEN]: token } })).json();
  return { data: model, painter: servedPainter(token, model.size) };
}
