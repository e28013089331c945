// ---- the page -----------------------------------------------------------------------------------------------------

function start() {
  const data = JSON.parse(document.getElementById("data").textContent);
  const at = (id) => document.getElementById(id);
  const maps = new Map(); // level number -> decoded maps
  const thumbnails = new Map(); // level number and cluster -> canvas
  const past = [];
  let state = initialState(data);
  let number = firstLevel(data);
  let selected = new Set();
  let pointed = []; // clusters under the pointer or the focus
  let unsaved = false;

  const level = () => data.levels[number];
  const shareOf = (ids) => ids.reduce((sum, id) => sum + level().shares[level().ids.indexOf(id)], 0);

  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (value === true) element.setAttribute(name, "");
      else if (value !== false && value !== null) element.setAttribute(name, value);
    }
    element.append(...children);
    return element;
  }

  /** What just happened: read out by screen readers, and shown until the pointer asks for something else. */
  const say = (text) => { at("status").textContent = text; at("hint").textContent = ""; };

  // -- pictures

  const pictures = data.pictures.map((uri, place) => {
    const image = make("img", { src: uri, alt: "" });
    const canvas = make("canvas", { "aria-hidden": "true" });
    const photograph = data.photographs[place - data.seeds.length];
    const title = photograph === undefined ? `seed ${data.seeds[place]}` : `photograph ${photograph}`;
    const label = photograph === undefined ? `generated picture ${place + 1}` : title;
    const box = make("div", { class: "picture", role: "img", title, "aria-label": label }, image, canvas);
    const under = (event) => {
      const map = maps.get(number)?.[place];
      if (!map) return null;
      const frame = canvas.getBoundingClientRect();
      const x = Math.floor(((event.clientX - frame.left) / frame.width) * map.width);
      const y = Math.floor(((event.clientY - frame.top) / frame.height) * map.height);
      if (x < 0 || y < 0 || x >= map.width || y >= map.height) return null;
      return level().ids[map.values[y * map.width + x]] ?? null; // null where a photograph's cluster is not known
    };
    box.addEventListener("pointermove", (event) => {
      const id = under(event);
      if (id !== null && (pointed.length !== 1 || pointed[0] !== id)) point([id]);
    });
    box.addEventListener("pointerleave", () => point([]));
    box.addEventListener("click", (event) => {
      const id = under(event);
      if (id !== null) toggle(id);
    });
    at("sheet").append(make("figure", {}, box));
    return { image, canvas, box };
  });

  function point(ids) {
    pointed = ids;
    if (ids.length) {
      const owner = state.owner[ids[0]];
      const name = owner === IGNORE ? "no class (ignored)" : state.classes[owner].name;
      at("hint").textContent = ids.length === 1
        ? `cluster ${ids[0]} is ${percent(shareOf(ids))} of all pixels and belongs to ${name}` : `${name}: ${percent(shareOf(ids))} of all pixels`;
    } else {
      at("hint").textContent = selected.size ? `${selected.size} selected: ${[...selected].join(", ")}` : "";
    }
    at("status").classList.toggle("behind", Boolean(at("hint").textContent));
    paint();
  }

  function toggle(id) {
    if (!selected.delete(id)) selected.add(id);
    say(selected.size ? `${selected.size} selected` : "nothing selected");
    render();
  }

  /** Colours by position in the level's clusters, [r, g, b, opacity] each. */
  function colours() {
    const opacity = Math.round(2.55 * at("opacity").value);
    const shown = classesOf(state, level());
    const lit = pointed.length ? new Set(pointed) : selected;
    const table = new Map();
    shown.forEach((entry, place) => {
      for (const id of entry.ids) table.set(id, [...rgb(entry.colour), place === 0 ? 0 : opacity]);
    });
    for (const id of ignoredOf(state, level())) table.set(id, [255, 255, 255, opacity]);
    return level().ids.map((id) => {
      if (!lit.size) return table.get(id);
      return lit.has(id) ? [...table.get(id).slice(0, 3), Math.min(90, opacity)] : [0, 0, 0, 200];
    });
  }

  function fill(canvas, map, table) {
    const pixels = new ImageData(map.width, map.height);
    map.values.forEach((value, place) => pixels.data.set(table[value] ?? [0, 0, 0, 0], 4 * place));
    canvas.width = map.width;
    canvas.height = map.height;
    canvas.getContext("2d").putImageData(pixels, 0, 0);
  }

  function paint() {
    const decoded = maps.get(number);
    if (!decoded) return;
    const table = colours();
    pictures.forEach(({ canvas }, place) => fill(canvas, decoded[place], table));
  }

  /** A cluster on the picture that has most of it. */
  function thumbnail(id) {
    const known = thumbnails.get(`${number} ${id}`);
    if (known) return known;
    const canvas = make("canvas", { "aria-hidden": "true" });
    const decoded = maps.get(number);
    const position = level().ids.indexOf(id);
    const counts = decoded.map((map) => map.values.reduce((sum, value) => sum + (value === position), 0));
    const best = counts.indexOf(Math.max(...counts));
    const cover = document.createElement("canvas");
    fill(cover, decoded[best], level().ids.map((_, place) => (place === position ? [0, 0, 0, 0] : [0, 0, 0, 215])));
    canvas.width = decoded[best].width;
    canvas.height = decoded[best].height;
    const context = canvas.getContext("2d");
    context.drawImage(pictures[best].image, 0, 0, canvas.width, canvas.height);
    context.drawImage(cover, 0, 0);
    thumbnails.set(`${number} ${id}`, canvas);
    return canvas;
  }

  // -- the list of classes

  function clusterButton(id) {
    const canvas = thumbnail(id);
    const label = make("span", {}, String(id), make("small", {}, percent(shareOf([id]))));
    return make("button", {
      type: "button", class: "cluster", id: `cluster-${id}`, "aria-pressed": String(selected.has(id)),
      "aria-label": `cluster ${id}, ${percent(shareOf([id]))}`,
      onclick: () => toggle(id), onpointerenter: () => point([id]), onpointerleave: () => point([]),
      onfocus: () => point([id]), onblur: () => point([]),
    }, canvas, label);
  }

  function classRow(entry, place, count) {
    const shift = (step) => () => act(moved(state, level(), entry.key, step), `${entry.name} moved`);
    const name = (event) => act(renamed(state, data, level(), entry.key, event.target.value), "renamed");
    const colour = (event) => {
      const next = recoloured(state, data, entry.key, event.target.value);
      if (next) return act(next, "recoloured");
      render();
      return say("another class has that colour: choose a different one");
    };
    const row = make("div", { class: "row", onpointerenter: () => point(entry.ids), onpointerleave: () => point([]) },
      make("span", { class: "place", "aria-hidden": "true" }, String(place)),
      make("input", { type: "color", id: `colour-${entry.key}`, value: entry.colour, "aria-label": `colour of ${entry.name}`, onchange: colour }),
      make("input", { type: "text", id: `name-${entry.key}`, value: entry.name, maxlength: "100", spellcheck: "false", "aria-label": `name of class ${place}`, onchange: name }),
      make("span", { class: "share" }, percent(shareOf(entry.ids))),
      make("button", { type: "button", id: `up-${entry.key}`, "aria-label": `move ${entry.name} up`, disabled: place === 0, onclick: shift(-1) }, "↑"),
      make("button", { type: "button", id: `down-${entry.key}`, "aria-label": `move ${entry.name} down`, disabled: place === count - 1, onclick: shift(1) }, "↓"));
    const item = make("li", {}, row, make("div", { class: "clusters" }, ...entry.ids.map(clusterButton)));
    item.style.setProperty("--class", entry.colour);
    return item;
  }

  function render() {
    const focused = document.activeElement?.id;
    const shown = classesOf(state, level());
    const ignored = ignoredOf(state, level());
    selected = new Set([...selected].filter((id) => level().ids.includes(id)));
    const rows = shown.map((entry, place) => classRow(entry, place, shown.length));
    if (ignored.length) {
      rows.push(make("li", { class: "ignored" },
        make("div", { class: "row" }, make("span", { class: "place" }, "–"), make("span", {}, "ignored: these pixels count for nothing (value 255 in masks)"),
          make("span", { class: "share" }, percent(shareOf(ignored)))),
        make("div", { class: "clusters" }, ...ignored.map(clusterButton))));
    }
    at("list").replaceChildren(...rows);
    at("name").disabled = selected.size === 0;
    for (const id of ["merge", "split", "ignore", "clear"]) at(id).disabled = selected.size < (id === "merge" ? 2 : 1);
    at("undo").disabled = past.length === 0;
    at("level-count").textContent = level().k;
    at("level").setAttribute("aria-valuetext", `${level().k} clusters`);
    const joined = level().ids.filter((id, place) => (level().above[place] ?? id) !== id);
    at("facts").textContent = joined.length === 2 ? `The most alike are ${joined.join(" and ")}: with fewer clusters they become one.` : "";
    const problem = problemOf(state, level());
    at("problem").textContent = problem;
    at("problem").hidden = !problem;
    for (const id of ["save", "copy"]) at(id).disabled = Boolean(problem);
    at("yaml").value = problem ? "" : yamlText(data, state, level());
    if (focused && at(focused) && document.activeElement !== at(focused)) at(focused).focus({ preventScroll: true });
    point([]);
  }

  function act(next, text) {
    past.push(state);
    state = next;
    unsaved = true;
    render();
    say(text);
  }

  const actions = {
    merge: () => selected.size > 1 && finish(merged(state, data, level(), [...selected]), "merged"),
    split: () => selected.size && finish(splitOff(state, data, level(), [...selected]), "split off"),
    ignore: () => selected.size && finish(ignoring(state, data, [...selected]), "ignored"),
    name: () => selected.size && at("name").focus(),
    clear: () => { selected.clear(); render(); },
    undo: () => { if (past.length) { state = past.pop(); render(); say("undone"); } },
  };

  function finish(next, text) {
    selected.clear();
    act(next, text);
  }

  async function show(wanted) {
    number = wanted;
    if (!maps.has(wanted)) maps.set(wanted, await Promise.all(data.levels[wanted].maps.map((text) => readMap(text, data.mapSize))));
    if (number === wanted) render();
  }

  at("name").addEventListener("keydown", (event) => {
    const text = cleanName(event.target.value);
    if (event.key === "Escape") event.target.blur();
    if (event.key !== "Enter" || !text || !selected.size) return;
    event.preventDefault();
    event.stopPropagation(); // Enter on the page leads into this field
    event.target.value = "";
    event.target.blur();
    finish(named(state, data, level(), [...selected], text), `named ${text}`);
  });
  for (const [id, action] of Object.entries(actions)) if (id !== "name") at(id).addEventListener("click", action);
  const keys = { enter: "name", m: "merge", s: "split", i: "ignore", escape: "clear", u: "undo" };
  document.addEventListener("keydown", (event) => {
    const typing = event.target.matches?.("input[type=text], textarea");
    const wanted = (event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z" ? "undo" : keys[event.key.toLowerCase()];
    const plain = wanted === "undo" && event.key.toLowerCase() === "z" ? !typing : !event.ctrlKey && !event.metaKey && !event.altKey && !typing;
    if (!wanted || !plain || (wanted === "name" && !selected.size)) return;
    if (wanted === "name" && event.target.closest?.("button:not(.cluster), a, input, summary")) return; // Enter is theirs
    event.preventDefault();
    actions[wanted]();
  });
  at("opacity").addEventListener("input", paint);
  at("level").max = data.levels.length - 1;
  at("level").value = number;
  at("level-box").hidden = data.levels.length < 2;
  at("level").addEventListener("input", (event) => show(Number(event.target.value)));
  at("save").addEventListener("click", () => {
    const url = URL.createObjectURL(new Blob([at("yaml").value], { type: "application/yaml" }));
    make("a", { href: url, download: "classes.yaml" }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10000);
    unsaved = false;
    say("classes.yaml saved; the next commands are at the end of the page");
  });
  at("copy").addEventListener("click", async () => {
    at("yaml").select();
    try {
      await navigator.clipboard.writeText(at("yaml").value);
      say("copied");
    } catch {
      say("press Ctrl-C: the text is selected"); // pages opened from a file may not write to the clipboard
    }
    unsaved = false;
  });
  ["use", "train"].forEach((id, i) => { at(id).textContent = data.commands[i]; });
  window.addEventListener("beforeunload", (event) => { if (unsaved) event.preventDefault(); });

  const ready = pictures.map(({ image, box }) => image.decode().catch(() => undefined).then(() => {
    box.style.aspectRatio = `${image.naturalWidth} / ${image.naturalHeight}`;
  }));
  Promise.all(ready).then(() => show(number));
}

if (typeof document !== "undefined") start();
