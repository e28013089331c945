// ---- the page -------------------------------------------------------------------------------------------------------

const LARGEST_BRUSH = 32;
const FAST = 250; // milliseconds: a picture that takes longer is painted when a stroke ends, not during it
const SLOW = 1500; // one that takes longer is not painted in other styles as well
const TOOLS = { b: "brush", e: "eraser", g: "fill", r: "rectangle", i: "pick", m: "move" };

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

function icon(name) {
  const [svg, use] = ["svg", "use"].map((tag) => document.createElementNS("http://www.w3.org/2000/svg", tag));
  use.setAttribute("href", `#i-${name}`);
  svg.setAttribute("aria-hidden", "true");
  svg.append(use);
  return svg;
}

/** What the page keeps of itself over a reload; a browser may refuse that for pages opened from a file. */
function makeStore(id) {
  const key = `gsegkit-painter-${id}`;
  try {
    localStorage.setItem(`${key}-probe`, "");
    localStorage.removeItem(`${key}-probe`);
  } catch {
    return null;
  }
  return {
    read() {
      try {
        return JSON.parse(localStorage.getItem(key)) ?? {};
      } catch {
        return {};
      }
    },
    write(value) {
      try {
        localStorage.setItem(key, JSON.stringify(value));
      } catch { /* it is full: the page goes on without */ }
    },
  };
}

function start({ data, painter }) {
  const at = (id) => document.getElementById(id);
  const dimensions = data.size, [width, height] = dimensions, count = data.classes.length;
  const colours = data.classes.map((one) => rgb(one.colour)), names = data.classes.map((one) => one.name);
  const history = makeHistory(), store = makeStore(data.id);
  const style = { seed: 1, other: 2, mix: 0, regions: data.classes.map(() => null) };
  const state = { mask: new Uint8Array(width * height), tool: "brush", value: Math.min(1, count - 1), brush: { size: Math.max(1, Math.round(Math.min(width, height) / 12)), square: false }, view: matchMedia("(max-width: 60rem)").matches ? "over" : "beside" };
  let work = null; // what is being drawn
  let wanted = null, busy = false, took = 0, pixels = null, painted = 0, saving = 0;

  const nameOf = (value) => names[value] ?? "unknown";
  const say = (text) => { at("status").textContent = text; };
  const trouble = (text) => { at("problem").textContent = text; at("problem").hidden = !text; };

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

  // -- the mask

  function show() {
    boards.drawMask(state.mask, colours);
    at("undo").disabled = !history.canUndo;
    at("redo").disabled = !history.canRedo;
    keep();
  }

  /** The mask has changed: show it, and paint it, during a stroke only where that is fast. */
  function changed(final = true) {
    show();
    if (final || took < FAST) repaint();
  }

  function replace(mask, words) {
    if (!same(mask, state.mask)) history.keep(state.mask);
    state.mask = mask;
    changed();
    say(words);
  }

  function step(mask, words) {
    if (work) return;
    if (!mask) {
      say(`nothing to ${words}`);
      return;
    }
    state.mask = mask;
    changed();
    say(words === "undo" ? "undone" : "done again");
  }

  function choose(value) {
    state.value = value;
    if (state.tool === "eraser" || state.tool === "pick" || state.tool === "move") state.tool = "brush";
    render();
    say(`painting ${nameOf(value)}`);
  }

  function pick([x, y]) {
    const value = x >= 0 && y >= 0 && x < width ? state.mask[Math.floor(y) * width + Math.floor(x)] : undefined;
    if (value === UNKNOWN) say("nobody knows what is there: choose a class");
    else if (value !== undefined) choose(value);
  }

  const brushOf = () => (["brush", "eraser"].includes(work?.tool ?? state.tool) ? state.brush : { size: 1, square: true });

  function draw(place) {
    const value = work.tool === "eraser" ? 0 : state.value;
    if (work.tool === "fill") fill(state.mask, dimensions, place, value);
    else if (work.tool === "rectangle") {
      state.mask.set(work.before);
      rectangle(state.mask, dimensions, work.start, place, value);
    } else stroke(state.mask, dimensions, work.last, place, state.brush, value);
    work.last = place;
  }

  const hand = {
    moves: () => state.tool === "move",
    begin(place, how) {
      if (work) hand.end();
      if (how.pick || state.tool === "pick") {
        pick(place);
        return;
      }
      if (state.tool === "move") return;
      work = { tool: how.erase ? "eraser" : state.tool, start: place, last: place, before: state.mask.slice() };
      draw(place);
      changed(false);
    },
    move(places) {
      if (!work || work.tool === "fill") return;
      places.forEach(draw);
      changed(false);
    },
    end() {
      if (!work) return;
      const { before, tool } = work;
      work = null;
      if (same(before, state.mask)) return;
      history.keep(before);
      changed();
      say(tool === "eraser" ? `${names[0]} again` : `${nameOf(state.value)} painted`);
    },
    hover(place) {
      boards.showGhost(place, brushOf(), data.classes[state.tool === "eraser" ? 0 : state.value].colour);
      const inside = place && place[0] >= 0 && place[1] >= 0 && place[0] < width && place[1] < height;
      at("under").textContent = inside ? nameOf(state.mask[Math.floor(place[1]) * width + Math.floor(place[0])]) : "";
    },
    at(place) {
      if (!place) return;
      hand.hover(place);
      say(`${nameOf(state.mask[Math.floor(place[1]) * width + Math.floor(place[0])])}, column ${Math.floor(place[0]) + 1}, row ${Math.floor(place[1]) + 1}`);
    },
  };
  const boards = makeBoards(at("boards"), dimensions, hand);
  const styles = makeStyles(at, make, style, (words) => { render(); keep(); repaint(); if (words) say(words); }, say);

  // -- controls

  const rows = data.classes.map(({ name, colour }, value) => {
    const key = value < 10 ? make("kbd", { "aria-hidden": "true" }, String(value)) : "";
    const button = make("button", { type: "button", class: "class" }, make("i", {}), make("span", {}, name), key);
    button.addEventListener("click", () => choose(value));
    const own = make("button", { type: "button", class: "own", title: "A style of its own", "aria-label": `A style of its own for ${name}` }, icon("dice"));
    own.addEventListener("click", () => styles.region(value, freshSeed(), name));
    const off = make("button", { type: "button", class: "own", title: "As the picture again", "aria-label": `${name} as the picture again` }, icon("off"));
    off.addEventListener("click", () => { styles.region(value, null, name); own.focus(); });
    const row = make("li", {}, button, ...(data.regionStyles ? [own, off] : []));
    row.style.setProperty("--class", colour);
    at("classes").append(row);
    return { button, own, off };
  });

  function render() {
    const erasing = state.tool === "eraser";
    rows.forEach(({ button, own, off }, value) => {
      button.setAttribute("aria-pressed", String(!erasing && value === state.value));
      own.setAttribute("aria-pressed", String(style.regions[value] !== null));
      off.hidden = style.regions[value] === null;
    });
    for (const tool of Object.values(TOOLS)) at(`tool-${tool}`).setAttribute("aria-pressed", String(tool === state.tool));
    for (const view of ["beside", "over"]) at(`view-${view}`).setAttribute("aria-pressed", String(view === state.view));
    at("boards").className = `boards ${state.view} tool-${state.tool}`;
    at("opacity-box").hidden = state.view !== "over";
    at("size").value = state.brush.size;
    at("size-shown").textContent = `${state.brush.size} px`;
    at("round").setAttribute("aria-pressed", String(!state.brush.square));
    at("square").setAttribute("aria-pressed", String(state.brush.square));
    at("boards").style.setProperty("--over", at("opacity").value / 100);
    styles.render();
  }

  function set(changes, words) {
    Object.assign(state, changes);
    render();
    keep();
    if (words) say(words);
  }

  const sized = (size) => set({ brush: { ...state.brush, size: Math.max(1, Math.min(LARGEST_BRUSH, size)) } }, `brush ${Math.max(1, Math.min(LARGEST_BRUSH, size))} pixels wide`);
  const zoomed = (steps) => { at("zoom-shown").textContent = `${boards.zoomBy(steps)}×`; };
  const undo = () => step(history.canUndo ? history.undo(state.mask) : null, "undo");
  const redo = () => step(history.canRedo ? history.redo(state.mask) : null, "redo");
  const turnView = () => set({ view: state.view === "beside" ? "over" : "beside" }, state.view === "beside" ? "the mask is over the picture" : "side by side");
  const clicks = {
    undo, redo, "save-mask": saveMask, "save-picture": savePicture, load: () => at("file").click(),
    "view-beside": () => set({ view: "beside" }), "view-over": () => set({ view: "over" }),
    "zoom-in": () => zoomed(1), "zoom-out": () => zoomed(-1),
    round: () => set({ brush: { ...state.brush, square: false } }), square: () => set({ brush: { ...state.brush, square: true } }),
    empty: () => replace(new Uint8Array(width * height), `all ${names[0]}`),
  };
  for (const tool of Object.values(TOOLS)) clicks[`tool-${tool}`] = () => set({ tool }, at(`tool-${tool}`).textContent.trim());
  for (const [id, action] of Object.entries(clicks)) at(id).addEventListener("click", action);
  at("size").max = LARGEST_BRUSH;
  at("size").addEventListener("input", () => sized(Number(at("size").value)));
  at("opacity").addEventListener("input", () => set({}));

  const keys = { z: undo, y: redo, n: styles.fresh, p: styles.back, v: turnView, "+": () => zoomed(1), "=": () => zoomed(1), "-": () => zoomed(-1), "[": () => sized(state.brush.size - 1), "]": () => sized(state.brush.size + 1) };
  document.addEventListener("keydown", (event) => {
    const key = event.key.toLowerCase(), control = event.ctrlKey || event.metaKey;
    if (event.altKey || event.target.matches("input[type=text]") || (control && key !== "z" && key !== "y")) return;
    const action = key === "z" && event.shiftKey ? redo : TOOLS[key] ? clicks[`tool-${TOOLS[key]}`] : keys[key];
    if (/^\d$/.test(key) && Number(key) < count) choose(Number(key));
    else if (action) action();
    else return;
    event.preventDefault();
  });

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
    const url = URL.createObjectURL(new Blob([bytes], { type: "image/png" }));
    make("a", { href: url, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10000);
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
    const { mask, ...rest } = state;
    store?.write({ ...rest, mask: toBase64(work?.before ?? mask), style, locked: styles.locked, opacity: at("opacity").value });
  }

  /** Take what was kept, as far as it can be: anybody may have written it. Whether there was a mask. */
  function restore(kept) {
    const whole = (value, most) => Number.isInteger(value) && value >= 0 && value <= most;
    if (Object.values(TOOLS).includes(kept.tool)) state.tool = kept.tool;
    if (whole(kept.value, count - 1)) state.value = kept.value;
    if (kept.view === "beside" || kept.view === "over") state.view = kept.view;
    if (whole(kept.brush?.size, LARGEST_BRUSH) && kept.brush.size) state.brush = { size: kept.brush.size, square: kept.brush.square === true };
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
    render();
    changed();
    if (!store) say("This browser keeps nothing for this page: save your mask before you leave.");
    window.addEventListener("pagehide", keepNow);
  }

  return begin();
}

if (typeof document === "undefined") module.exports = { stamp, stroke, fill, rectangle, makeHistory, packedStyle, maskPng, picturePng, readMaskPng, seedIn };
else {
  opened().then(start).catch((error) => {
    const box = document.createElement("p");
    box.className = "note warn";
    box.textContent = `This page cannot paint: ${error.message}.`;
    document.querySelector("header").append(box);
  });
}
