"use strict";

// ---- names: plain data, no page needed ------------------------------------------------------------------------------
// A state is {owner: cluster id -> class key or IGNORE, classes: key -> {name, colour}, orders: level -> [key]}. It
// covers the clusters of all levels at once, so the slider loses nothing: a cluster keeps its id wherever it exists.
// A name that a person gives reaches all that the cluster is made of on finer levels, and what it becomes part of on
// coarser ones as soon as all that is in there has one name.
// The order of the classes on a level is that of the level's clusters (the background first), until someone moves one.

const IGNORE = "ignore";
const RAW = /^(cluster-|part )\d+$/; // names that nobody gave

function initialState(data) {
  const state = { owner: {}, classes: {}, orders: {} };
  const levels = [...data.levels].sort((a, b) => a.k - b.k);
  const start = data.start;
  if (start) {
    state.orders[start.cut ?? data.cut] = start.classes.map((_, place) => `start-${place}`);
    start.classes.forEach((entry, place) => {
      const key = `start-${place}`;
      state.classes[key] = { name: entry.name, colour: entry.colour };
      for (const id of entry.clusters) state.owner[id] = key;
    });
    for (const id of start.ignore) state.owner[id] = IGNORE;
    if (!start.automatic) follow(state, data, Object.keys(state.owner).map(Number));
  }
  for (const level of levels) {
    level.ids.forEach((id, place) => {
      if (!(id in state.owner)) ownClass(state, data, level, id, place);
    });
  }
  return settled(state, data);
}

/** A class of its own for a cluster, in the cluster's own colour. */
function ownClass(state, data, level, id, place) {
  const key = `own-${id}`;
  const name = data.hasLevels ? `cluster-${id}` : data.names[id];
  state.classes[key] = { name, colour: data.colours[id] ?? data.palette[place % data.palette.length] };
  state.owner[id] = key;
}

/** What every cluster is made of on the next finer level, and what it becomes part of on the next coarser one. */
function treeOf(data) {
  const known = new Set(data.levels.flatMap((level) => level.ids));
  const tree = { parent: new Map(), children: new Map() };
  for (const level of data.levels) {
    level.ids.forEach((id, place) => {
      const parent = level.above?.[place];
      if (parent === undefined || parent === id || !known.has(parent)) return;
      tree.parent.set(id, parent);
      if (!tree.children.get(parent)?.includes(id)) tree.children.set(parent, [...(tree.children.get(parent) ?? []), id]);
    });
  }
  return tree;
}

/** Pass the classes of these clusters on along the tree: down to all they are made of, up where all agree. */
function follow(state, data, ids) {
  const tree = treeOf(data);
  const down = (id) => {
    for (const child of tree.children.get(id) ?? []) {
      state.owner[child] = state.owner[id];
      down(child);
    }
  };
  const up = (id) => {
    const parent = tree.parent.get(id);
    if (parent === undefined) return;
    const owners = new Set(tree.children.get(parent).map((child) => state.owner[child]));
    if (owners.size === 1 && !owners.has(undefined)) {
      state.owner[parent] = state.owner[id];
      up(parent);
    }
  };
  ids.forEach(down);
  ids.forEach(up);
}

const classesInUse = (state) => new Set(Object.values(state.owner).filter((key) => key !== IGNORE));

/** Colours of the other classes that stand beside a class on some level. */
function coloursBeside(state, data, key) {
  const beside = data.levels.map((level) => new Set(level.ids.map((id) => state.owner[id]))).filter((keys) => keys.has(key));
  const others = beside.flatMap((keys) => [...keys]).filter((other) => other !== key && other !== IGNORE);
  return new Set(others.map((other) => state.classes[other].colour.toLowerCase()));
}

/** The same state in which no two classes of a level have one colour: those without a given name give way. */
function settled(state, data) {
  const own = (key) => key.startsWith("own-");
  const keys = [...classesInUse(state)].sort((a, b) => own(b) - own(a));
  for (const key of keys) {
    const taken = coloursBeside(state, data, key);
    if (!taken.has(state.classes[key].colour.toLowerCase())) continue;
    state.classes[key] = { ...state.classes[key], colour: data.palette.slice(1).find((colour) => !taken.has(colour)) ?? data.palette[1] };
  }
  return state;
}

/** Number of the level to begin with: that of the names there are, else the coarse cut, else the present one. */
function firstLevel(data) {
  const wanted = data.start ? [data.start.cut ?? data.cut] : [data.coarse, data.cut];
  const places = wanted.map((k) => data.levels.findIndex((level) => level.k === k));
  return Math.max(0, places.find((place) => place >= 0) ?? 0);
}

/** The classes that have clusters on a level, in mask order. */
function classesOf(state, level) {
  const keys = [...new Set(level.ids.map((id) => state.owner[id]))].filter((key) => key !== IGNORE);
  const wanted = (state.orders[level.k] || []).filter((key) => keys.includes(key));
  return [...new Set([...wanted, ...keys])]
    .map((key) => ({ key, ...state.classes[key], ids: level.ids.filter((id) => state.owner[id] === key) }));
}

const ignoredOf = (state, level) => level.ids.filter((id) => state.owner[id] === IGNORE);

/** Give clusters to a class, with all that follows along the tree. */
function given(next, data, ids, key) {
  for (const id of ids) next.owner[id] = key;
  follow(next, data, ids);
  return settled(next, data);
}

/** Put clusters into one class: the first of theirs that a person named, else the first. */
function merged(state, data, level, ids) {
  const found = classesOf(state, level).filter((entry) => entry.ids.some((id) => ids.includes(id)));
  const target = found.find((entry) => !RAW.test(entry.name)) || found[0];
  return target ? given(structuredClone(state), data, ids, target.key) : state;
}

/** A key that no class has: `named-0`, `named-1` ... */
function freshKey(state, stem) {
  let number = 0;
  while (`${stem}-${number}` in state.classes) number += 1;
  return `${stem}-${number}`;
}

/** Put clusters into the class of that name; where no level has one, into a new one in the colour of the first. */
function named(state, data, level, ids, text) {
  const name = cleanName(text);
  const next = structuredClone(state);
  let key = [...classesInUse(state)].find((other) => state.classes[other].name === name);
  if (key === undefined) {
    key = freshKey(next, "named");
    const first = level.ids.find((id) => ids.includes(id));
    const colour = state.classes[state.owner[first]]?.colour ?? data.colours[first] ?? data.palette[1];
    next.classes[key] = { name, colour };
    for (const id of ids) next.owner[id] = key;
    follow(next, data, ids);
    const taken = coloursBeside(next, data, key); // where the cluster leaves a class behind, that one keeps its colour
    const own = [data.colours[first], ...data.palette.slice(1)].find((other) => other && !taken.has(other));
    if (taken.has(colour.toLowerCase())) next.classes[key].colour = own ?? colour;
  }
  return given(next, data, ids, key);
}

/** Another name for a class; where a class has that name, its clusters go there. */
function renamed(state, data, level, key, text) {
  const name = cleanName(text);
  const ids = level.ids.filter((id) => state.owner[id] === key);
  const there = [...classesInUse(state)].some((other) => other !== key && state.classes[other].name === name);
  if (there && name) return named(state, data, level, ids, name);
  return given(changed(state, key, { name }), data, ids, key);
}

/** Another colour for a class, unless a class beside it has that one: then null. */
function recoloured(state, data, key, colour) {
  return coloursBeside(state, data, key).has(colour.toLowerCase()) ? null : changed(state, key, { colour });
}

/** Give clusters, and all that they are made of, classes of their own again. */
function splitOff(state, data, level, ids) {
  const next = structuredClone(state);
  const tree = treeOf(data);
  const all = new Set();
  const collect = (id) => { all.add(id); (tree.children.get(id) ?? []).forEach(collect); };
  ids.forEach(collect);
  for (const id of all) {
    const key = `own-${id}`;
    // a class that carries this cluster's own key needs another one for the clusters that stay
    const stay = Object.keys(next.owner).filter((other) => next.owner[other] === key && !all.has(Number(other)));
    if (stay.length) {
      const kept = freshKey(next, "kept");
      next.classes[kept] = next.classes[key];
      for (const order of Object.values(next.orders)) {
        if (order.includes(key)) order[order.indexOf(key)] = kept;
      }
      for (const other of stay) next.owner[other] = kept;
    }
    const place = Math.max(0, ...data.levels.map((one) => one.ids.indexOf(id)));
    ownClass(next, data, level, id, place);
  }
  return settled(next, data);
}

function ignoring(state, data, ids) {
  return given(structuredClone(state), data, ids, IGNORE);
}

/** Exchange a class with its neighbour on this level. */
function moved(state, level, key, step) {
  const next = structuredClone(state);
  const shown = classesOf(state, level).map((entry) => entry.key);
  const place = shown.indexOf(key);
  if (shown[place + step] === undefined) return next;
  [shown[place], shown[place + step]] = [shown[place + step], shown[place]];
  next.orders[level.k] = shown;
  return next;
}

function changed(state, key, values) {
  const next = structuredClone(state);
  Object.assign(next.classes[key], values);
  return next;
}

const cleanName = (text) => text.replace(/\s+/gu, " ").replace(/[\p{C}\p{Zl}\p{Zp}]/gu, "").trim().slice(0, 100);

/** What keeps the names from being saved, "" if nothing does. */
function problemOf(state, level) {
  const names = classesOf(state, level).map((entry) => entry.name);
  if (names.length < 2) return "There must be at least two classes.";
  if (names.includes("")) return "A class has no name.";
  const twice = names.find((name, place) => names.indexOf(name) !== place);
  return twice === undefined ? "" : `Two classes are called “${twice}”: merge them, or rename one.`;
}

/** The text of classes.yaml. A JSON string is a YAML string. */
function yamlText(data, state, level) {
  const lines = ["# Which clusters are which class. Use it with --classes; cut and clusters belong to one fit."];
  lines.push(`extractor: ${JSON.stringify(data.extractor)}`);
  if (data.hasLevels) lines.push(`cut: ${level.k}`);
  lines.push("classes:");
  for (const entry of classesOf(state, level)) {
    lines.push(`- name: ${JSON.stringify(entry.name)}`, `  colour: ${JSON.stringify(entry.colour)}`);
    lines.push(`  clusters: [${entry.ids.join(", ")}]`);
  }
  const ignored = ignoredOf(state, level);
  if (ignored.length) lines.push(`ignore: [${ignored.join(", ")}]`);
  return `${lines.join("\n")}\n`;
}

/** A map of positions in a level's clusters, as the page holds it: deflated rows in base64. */
async function readMap(text, [width, height]) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return { width, height, values: new Uint8Array(await new Response(stream).arrayBuffer()) };
}

const rgb = (colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
const percent = (share) => `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)} %`;
