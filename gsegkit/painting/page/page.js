// ---- the page -------------------------------------------------------------------------------------------------------

const FAST = 250; // milliseconds: a picture that takes longer is painted when a stroke ends, not during it
const SLOW = 1500; // one that takes longer is not painted in other styles as well

function start({ data, painter }) {
  const at = (id) => document.getElementById(id);
  const dimensions = data.size, [width, height] = dimensions, count = data.classes.length;
  const colours = data.classes.map((one) => rgb(one.colour));
  const store = makeStore(data.id);
  const style = { seed: 1, other: 2, mix: 0, regions: data.classes.map(() => null) };
  const state = { mask: new Uint8Array(width * height), tool: "brush", value: Math.min(1, count - 1), brush: { size: Math.max(1, Math.round(Math.min(width, height) / 12)), square: false }, view: matchMedia("(max-width: 60rem)").matches ? "over" : "beside" };
  let wanted = null, busy = false, took = 0, pixels = null, painted = 0, saving = 0;

  // -- pictures: the newest mask only

  /** Ask for a picture of what is there now. While one is painted, the last wish alone waits. */
  async function repaint() {
    wanted = { mask: state.mask.slice(), style: structuredClone(style) };
    styles.stop();
    if (busy) return;
    busy = true;
    document.body.classList.add("busy");
    try {
      while (wanted) {
        const job = wanted, began = performance.now();
        const waiting = setTimeout(() => { at("took").textContent = "painting …"; }, FAST);
        wanted = null;
        pixels = await painter.paint(job.mask, job.style).finally(() => clearTimeout(waiting));
        took = performance.now() - began;
        boards.drawPicture(pixels);
        at("took").textContent = `${(took / 1000).toFixed(took < 995 ? 2 : 1)} s`;
        painted += 1;
        document.body.dataset.painted = painted;
      }
      trouble("");
    } catch (error) {
      wanted = null;
      at("took").textContent = "";
      trouble(`No picture: ${error.message}.`);
    }
    busy = false;
    document.body.classList.remove("busy");
    if (took < SLOW && pixels) styles.showOthers(paintBeside);
  }

  /** A picture in another style, for the small ones; null once something else is to be painted. */
  async function paintBeside(other) {
    if (busy || wanted) return null;
    const found = await painter.paint(state.mask.slice(), structuredClone(other)).catch(() => null);
    return found && new ImageData(found, width, height);
  }

  // -- the desk

  /** What a class has beside it: a style of its own, and a way back. */
  const own = new Map();
  function beside({ name, value }) {
    if (!data.regionStyles) return [];
    const on = make("button", { type: "button", class: "own", title: "A style of its own", "aria-label": `A style of its own for ${name}` }, icon("dice"));
    on.addEventListener("click", () => styles.region(value, freshSeed(), name));
    const off = make("button", { type: "button", class: "own", title: "As the picture again", "aria-label": `${name} as the picture again` }, icon("off"));
    off.addEventListener("click", () => { styles.region(value, null, name); on.focus(); });
    own.set(value, { on, off });
    return [on, off];
  }

  function render() {
    for (const [value, { on, off }] of own) {
      on.setAttribute("aria-pressed", String(style.regions[value] !== null));
      off.hidden = style.regions[value] === null;
    }
    styles.render();
  }

  const desk = makeDesk({
    at, size: dimensions, state, erased: 0, beside,
    classes: data.classes.map(({ name, colour }, value) => ({ name, colour, value, key: value < 10 ? String(value) : "" })),
    on: {
      keep, render,
      changed(final) {
        if (final || took < FAST) repaint();
      },
      keys: { n: () => styles.fresh(), p: () => styles.back() },
    },
  });
  const { boards, replace, say, trouble } = desk;
  const styles = makeStyles(at, make, style, (words) => { desk.render(); keep(); repaint(); if (words) say(words); }, say);
  at("save-mask").addEventListener("click", saveMask);
  at("save-picture").addEventListener("click", savePicture);
  at("empty").addEventListener("click", () => replace(new Uint8Array(width * height), `all ${data.classes[0].name}`));

  // -- examples and files

  data.examples.forEach((example, place) => {
    const canvas = make("canvas", { width, height, "aria-hidden": "true" }), picture = make("img", { src: example.picture, alt: "" });
    const button = make("button", { type: "button", "aria-label": `Start from example ${place + 1}`, title: `Example ${place + 1}` }, picture, canvas);
    button.style.aspectRatio = `${width} / ${height}`;
    at("examples").append(button);
    const ready = readExample(example).then((mask) => {
      const image = new ImageData(width, height);
      mask.forEach((value, pixel) => image.data.set([...(colours[value] ?? [255, 255, 255]), value ? 255 : 0], 4 * pixel));
      canvas.getContext("2d").putImageData(image, 0, 0);
      return mask;
    });
    button.addEventListener("click", async () => {
      const mask = await ready;
      if (!styles.locked) styles.fresh();
      replace(mask.slice(), `example ${place + 1}`);
    });
  });

  async function readExample({ mask }) {
    return drained(through(fromBase64(mask), new DecompressionStream("deflate")), width * height);
  }

  function save(bytes, name) {
    download(bytes, name, "image/png");
    say(`${name} saved`);
  }

  async function saveMask() {
    save(await maskPng(state.mask, dimensions, data.classes.map((one) => one.colour)), "mask.png");
  }

  async function savePicture() {
    if (pixels) save(await picturePng(pixels, dimensions), "picture.png");
    else say("there is no picture yet");
  }

  at("file").addEventListener("change", async () => {
    const [file] = at("file").files;
    at("file").value = "";
    if (!file) return;
    try {
      if (file.size > LARGEST_FILE) throw new Error("is too large to be a mask");
      replace(await readMaskPng(new Uint8Array(await file.arrayBuffer()), dimensions, count), `${file.name} loaded`);
      trouble("");
    } catch (error) {
      trouble(`${file.name} ${error.message}.`);
    }
  });

  // -- kept over a reload

  function keep() {
    clearTimeout(saving);
    saving = setTimeout(keepNow, 200);
  }

  function keepNow() {
    const { mask: _, ...rest } = state;
    store?.write({ ...rest, mask: toBase64(desk.settled), style, locked: styles.locked, opacity: at("opacity").value });
  }

  /** Take what was kept, as far as it can be: anybody may have written it. Whether there was a mask. */
  function restore(kept) {
    const whole = (value, most) => Number.isInteger(value) && value >= 0 && value <= most;
    if (Object.values(TOOLS).includes(kept.tool)) state.tool = kept.tool;
    if (whole(kept.value, count - 1)) state.value = kept.value;
    if (kept.view === "beside" || kept.view === "over") state.view = kept.view;
    if (whole(kept.brush?.size, limitOf(dimensions)) && kept.brush.size) state.brush = { size: kept.brush.size, square: kept.brush.square === true };
    if (/^\d{1,3}$/.test(kept.opacity)) at("opacity").value = kept.opacity;
    for (const name of ["seed", "other"]) if (whole(kept.style?.[name], LARGEST_SEED)) style[name] = kept.style[name];
    if (kept.style?.mix >= 0 && kept.style.mix <= 1) style.mix = Number(kept.style.mix);
    if (data.regionStyles) style.regions = style.regions.map((_, place) => (whole(kept.style?.regions?.[place], LARGEST_SEED) ? kept.style.regions[place] : null));
    styles.locked = kept.locked === true;
    try {
      const mask = fromBase64(kept.mask);
      if (mask.length !== width * height || mask.some((value) => value >= count && value !== UNKNOWN)) return false;
      state.mask = mask;
      return true;
    } catch {
      return false;
    }
  }

  async function begin() {
    at("title").textContent = data.title;
    at("licences").textContent = data.licences.join(" ");
    boards.label(`${width} by ${height} pixels`);
    document.querySelector("main").hidden = false;
    if (!restore(store?.read() ?? {}) && data.examples.length) state.mask = (await readExample(data.examples[0])).slice();
    at("mixing").open = style.mix > 0;
    desk.render();
    desk.show();
    repaint();
    if (!store) say("This browser keeps nothing for this page: save your mask before you leave.");
    window.addEventListener("pagehide", keepNow);
  }

  return begin();
}

if (typeof document === "undefined") module.exports = { stamp, stroke, fill, rectangle, makeHistory, packedStyle, maskPng, picturePng, readMaskPng, seedIn };
else {
  opened().then(start).catch((error) => cannot("paint", error));
}
