// ---- the desk: canvas, classes and tools, whatever becomes of the mask ----------------------------------------------

const SMALLEST_LIMIT = 32; // of the brush, in pixels; on large masks a quarter of a side
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
    /** Whether there was room for it. */
    write(value) {
      try {
        localStorage.setItem(key, JSON.stringify(value));
        return true;
      } catch {
        return false;
      }
    },
  };
}

/** The widest brush for a mask of this size. */
const limitOf = ([width, height]) => Math.max(SMALLEST_LIMIT, Math.round(Math.min(width, height) / 4));

/**
 * `classes` are {name, colour, value, key}; `erased` is the value that the eraser leaves. `state` {mask, tool, value,
 * brush, view} is changed in place. `on` is told: changed(final) when the mask is another one, keep() and render() when
 * anything is; its `keys` are more keys. `beside(one)` gives what stands beside a class.
 */
function makeDesk({ at, size, classes, erased, state, on, beside = () => [] }) {
  const known = new Map(classes.map((one) => [one.value, one])), colours = [];
  for (const { value, colour } of classes) if (value !== UNKNOWN) colours[value] = rgb(colour);
  let [width, height] = size, history = makeHistory(width * height), largest = limitOf(size);
  let work = null; // what is being drawn

  const nameOf = (value) => known.get(value)?.name ?? "unknown";
  const say = (text) => { at("status").textContent = text; };
  const trouble = (text) => { at("problem").textContent = text; at("problem").hidden = !text; };

  // -- the mask

  function show() {
    boards.drawMask(state.mask, colours);
    at("undo").disabled = !history.canUndo;
    at("redo").disabled = !history.canRedo;
    on.keep();
  }

  /** The mask has changed; final = the stroke has ended. */
  function changed(final = true) {
    show();
    on.changed(final);
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
    on.keep();
    say(`painting ${nameOf(value)}`);
  }

  const valueAt = ([x, y]) => state.mask[Math.floor(y) * width + Math.floor(x)];
  const within = ([x, y]) => x >= 0 && y >= 0 && x < width && y < height;

  function pick(place) {
    const value = within(place) ? valueAt(place) : undefined;
    if (value !== undefined && !known.has(value)) say("nobody knows what is there: choose a class");
    else if (value !== undefined) choose(value);
  }

  const brushOf = () => (["brush", "eraser"].includes(work?.tool ?? state.tool) ? state.brush : { size: 1, square: true });

  function draw(place) {
    const value = work.tool === "eraser" ? erased : state.value;
    if (work.tool === "fill") fill(state.mask, [width, height], place, value);
    else if (work.tool === "rectangle") {
      state.mask.set(work.before);
      rectangle(state.mask, [width, height], work.start, place, value);
    } else stroke(state.mask, [width, height], work.last, place, state.brush, value);
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
      say(tool === "eraser" ? `${nameOf(erased)} again` : `${nameOf(state.value)} painted`);
    },
    hover(place) {
      boards.showGhost(place, brushOf(), (known.get(state.tool === "eraser" ? erased : state.value) ?? classes[0]).colour);
      at("under").textContent = place && within(place) ? nameOf(valueAt(place)) : "";
    },
    at(place) {
      if (!place) return;
      hand.hover(place);
      say(`${nameOf(valueAt(place))}, column ${Math.floor(place[0]) + 1}, row ${Math.floor(place[1]) + 1}`);
    },
  };
  const boards = makeBoards(at("boards"), size, hand);

  // -- controls

  const rows = classes.map((one) => {
    const key = one.key ? make("kbd", { "aria-hidden": "true" }, one.key) : "";
    const button = make("button", { type: "button", class: one.value === UNKNOWN ? "class unknown" : "class" }, make("i", {}), make("span", {}, one.name), key);
    button.addEventListener("click", () => choose(one.value));
    const row = make("li", {}, button, ...beside(one));
    row.style.setProperty("--class", one.colour);
    at("classes").append(row);
    return { value: one.value, button };
  });

  function render() {
    const used = state.tool !== "eraser" ? state.value : known.has(UNKNOWN) ? erased : null;
    for (const { value, button } of rows) button.setAttribute("aria-pressed", String(value === used));
    for (const tool of Object.values(TOOLS)) at(`tool-${tool}`).setAttribute("aria-pressed", String(tool === state.tool));
    for (const view of ["beside", "over"]) at(`view-${view}`).setAttribute("aria-pressed", String(view === state.view));
    at("boards").className = `boards ${state.view} tool-${state.tool}`;
    at("opacity-box").hidden = state.view !== "over";
    at("size").max = largest;
    at("size").value = state.brush.size;
    at("size-shown").textContent = `${state.brush.size} px`;
    at("round").setAttribute("aria-pressed", String(!state.brush.square));
    at("square").setAttribute("aria-pressed", String(state.brush.square));
    at("boards").style.setProperty("--over", at("opacity").value / 100);
    on.render();
  }

  function set(changes, words) {
    Object.assign(state, changes);
    render();
    on.keep();
    if (words) say(words);
  }

  function sized(wanted) {
    const size = Math.max(1, Math.min(largest, wanted));
    set({ brush: { ...state.brush, size } }, `brush ${size} pixels wide`);
  }

  const zoomed = (steps) => { at("zoom-shown").textContent = `${boards.zoomBy(steps)}×`; };
  const undo = () => step(history.canUndo ? history.undo(state.mask) : null, "undo");
  const redo = () => step(history.canRedo ? history.redo(state.mask) : null, "redo");
  const turnView = () => set({ view: state.view === "beside" ? "over" : "beside" }, state.view === "beside" ? "the mask is over the picture" : "side by side");
  const clicks = {
    undo, redo, load: () => at("file").click(),
    "view-beside": () => set({ view: "beside" }), "view-over": () => set({ view: "over" }),
    "zoom-in": () => zoomed(1), "zoom-out": () => zoomed(-1),
    round: () => set({ brush: { ...state.brush, square: false } }), square: () => set({ brush: { ...state.brush, square: true } }),
  };
  for (const tool of Object.values(TOOLS)) clicks[`tool-${tool}`] = () => set({ tool }, at(`tool-${tool}`).textContent.trim());
  for (const [id, action] of Object.entries(clicks)) at(id).addEventListener("click", action);
  at("size").addEventListener("input", () => sized(Number(at("size").value)));
  at("opacity").addEventListener("input", () => set({}));

  const keys = { z: undo, y: redo, v: turnView, "+": () => zoomed(1), "=": () => zoomed(1), "-": () => zoomed(-1), "[": () => sized(state.brush.size - 1), "]": () => sized(state.brush.size + 1), ...on.keys };
  for (const { key, value } of classes) if (key) keys[key.toLowerCase()] = () => choose(value);
  document.addEventListener("keydown", (event) => {
    const key = event.key.toLowerCase(), control = event.ctrlKey || event.metaKey;
    if (event.altKey || event.target.matches("input[type=text]") || (control && key !== "z" && key !== "y")) return;
    const action = key === "z" && event.shiftKey ? redo : TOOLS[key] ? clicks[`tool-${TOOLS[key]}`] : keys[key];
    if (!action) return;
    action();
    event.preventDefault();
  });

  return {
    boards, choose, nameOf, render, replace, say, set, show, trouble,
    get history() { return history; },
    /** The mask without the stroke that is being drawn. */
    get settled() { return work?.before ?? state.mask; },

    /** Go on with another mask, of another size, and what can be undone of it. */
    take(mask, dimensions, past) {
      hand.end();
      [width, height] = dimensions;
      history = past;
      largest = limitOf(dimensions);
      state.mask = mask;
      boards.resize(dimensions);
      if (state.brush.size > largest) state.brush.size = largest;
      render();
      show();
    },
  };
}

/** Give a file to the person. */
function download(bytes, name, type) {
  const url = URL.createObjectURL(new Blob([bytes], { type }));
  make("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}
