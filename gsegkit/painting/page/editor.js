// ---- the page as an editor: pictures and their masks, one after the other --------------------------------------------

const PAUSE = 400; // milliseconds after a change, before it is saved

const fromUri = (uri) => new Blob([fromBase64(uri.slice(uri.indexOf(",") + 1))], { type: "image/png" });

/** Masks that a browser keeps: the page is a file, and cannot write others. */
function pageSource(data) {
  const store = makeStore(data.id), kept = { masks: {}, done: [], ...store?.read() };
  const unpack = async (text, [width, height]) => drained(through(fromBase64(text), new DecompressionStream("deflate")), width * height);
  return {
    saved: store ? "Kept in this browser. Save masks makes files of them." : "",
    async load({ name, size, mask, draft, picture }) {
      const first = await unpack(draft, size), count = data.classes.length;
      const own = Object.hasOwn(kept.masks, name) ? await unpack(kept.masks[name], size).catch(() => null) : null;
      const fits = own?.length === size[0] * size[1] && own.every((value) => value < count || value === UNKNOWN);
      return { draft: first, mask: fits ? own : await unpack(mask, size), bitmap: await createImageBitmap(fromUri(picture)) };
    },
    async save({ name }, mask) {
      if (!store) return;
      kept.masks[name] = toBase64(await drained(through(mask, new CompressionStream("deflate")), Infinity));
      if (!store.write(kept)) throw new Error("this browser has no more room for it; Save masks makes files");
    },
    async setDone({ name }, done) {
      kept.done = [...kept.done.filter((one) => one !== name), ...(done ? [name] : [])];
      store?.write(kept);
    },
    /** What an earlier visit left. */
    restore(pictures) {
      for (const one of pictures) {
        if (Object.hasOwn(kept.masks, one.name)) one.changed = true;
        one.done = one.done || (Array.isArray(kept.done) && kept.done.includes(one.name));
      }
    },
  };
}

/** Masks in a folder of this machine, by its server. */
function servedSource(token, data) {
  const headers = (place, more = {}) => ({ [TOKEN]: token, "X-Gsegkit-Picture": String(place), ...more });
  const sending = { "Content-Type": "application/octet-stream" };
  return {
    saved: `Saved in ${data.title}/masks.`,
    async load({ size: [width, height] }, place) {
      const [masks, picture] = await Promise.all(["masks", "picture"].map((path) => asked(path, { headers: headers(place) })));
      const bytes = new Uint8Array(await masks.arrayBuffer()), half = width * height;
      if (bytes.length !== 2 * half) throw new Error("the server sent no mask");
      return { mask: bytes.slice(0, half), draft: bytes.slice(half), revision: masks.headers.get("ETag"), bitmap: await createImageBitmap(await picture.blob()) };
    },
    async save(_, mask, place, sheet) {
      const answer = await asked("mask", { method: "POST", body: mask, headers: headers(place, { ...sending, "If-Match": sheet.revision }) });
      sheet.revision = answer.headers.get("ETag");
    },
    async setDone(_, done, place) {
      await asked("done", { method: "POST", body: Uint8Array.of(done ? 1 : 0), headers: headers(place, sending) });
    },
    restore() { /* the server has told */ },
  };
}

function edit({ data, source }) {
  const at = (id) => document.getElementById(id), count = data.classes.length, { pictures } = data;
  const colours = data.classes.map((one) => one.colour);
  const classes = data.classes.map(({ name, colour }, value) => ({ name, colour, value, key: value < 10 ? String(value) : "" }));
  const sheets = pictures.map(() => null); // of the pictures that were opened: {mask, draft, bitmap, history, dirty}
  const smallest = Math.min(...pictures[0].size);
  const state = { mask: new Uint8Array(pictures[0].size[0] * pictures[0].size[1]).fill(UNKNOWN), tool: "brush", value: Math.min(1, count - 1), brush: { size: Math.max(1, Math.round(smallest / 16)), square: false }, view: "over" };
  let current = -1, turning = Promise.resolve(), saving = Promise.resolve(), timer = 0, failed = false;

  const desk = makeDesk({
    at, size: pictures[0].size, state, erased: UNKNOWN,
    classes: [...classes, { name: "unknown", colour: "#80848a", value: UNKNOWN, key: "U" }],
    on: {
      keep() {}, render() {},
      changed(final) {
        const sheet = sheets[current];
        sheet.mask = state.mask;
        if (!final) return;
        touched(current);
        clearTimeout(timer);
        timer = setTimeout(saveAll, PAUSE);
      },
      keys: { n: () => turn(current + 1), p: () => turn(current - 1), d: () => finish() },
    },
  });
  const { boards, say, trouble } = desk;

  // -- saving: one after the other, the newest mask only

  function touched(place) {
    sheets[place].dirty = true;
    pictures[place].changed = !same(sheets[place].mask, sheets[place].draft);
    marks();
  }

  function saveAll() {
    clearTimeout(timer);
    saving = saving.then(async () => {
      for (const [place, sheet] of sheets.entries()) {
        if (!sheet?.dirty) continue;
        sheet.dirty = false;
        try {
          await source.save(pictures[place], (place === current ? desk.settled : sheet.mask).slice(), place, sheet);
          if (failed) trouble("");
          failed = false;
        } catch (error) {
          sheet.dirty = true;
          failed = true;
          trouble(`Not saved: ${error.message}. Save masks makes files of what you painted.`);
          break;
        }
      }
      marks();
    });
    return saving;
  }

  // -- pictures

  const rows = pictures.map(({ name, thumb }, place) => {
    const mark = make("span", { class: "mark", "aria-hidden": "true" });
    const button = make("button", { type: "button", title: name }, make("img", { src: thumb, alt: "" }), mark);
    button.addEventListener("click", () => turn(place));
    at("list").append(make("li", {}, button));
    return { button, mark };
  });

  function marks() {
    rows.forEach(({ button, mark }, place) => {
      const { name, changed, done } = pictures[place], words = [changed ? "changed" : "", done ? "done" : ""].filter(Boolean);
      button.setAttribute("aria-label", [`Picture ${place + 1} of ${pictures.length}`, name, ...words].join(", "));
      button.setAttribute("aria-current", String(place === current));
      mark.textContent = done ? "✓" : changed ? "•" : "";
    });
    const dirty = sheets.some((sheet) => sheet?.dirty);
    at("saved").textContent = dirty ? "Not saved yet." : source.saved || "This browser keeps nothing for this page: save your masks before you leave.";
    document.body.dataset.saved = String(!dirty);
    at("progress").textContent = `${pictures.filter((one) => one.done).length} of ${pictures.length} done`;
    at("done").setAttribute("aria-pressed", String(Boolean(pictures[current]?.done)));
    at("previous").disabled = current <= 0;
    at("next").disabled = current >= pictures.length - 1;
  }

  async function opened(place) {
    if (!sheets[place]) {
      const [width, height] = pictures[place].size;
      sheets[place] = { ...await source.load(pictures[place], place), history: makeHistory(width * height), dirty: false };
    }
    return sheets[place];
  }

  /** Show another picture, once those that were asked for before are there. */
  function turn(place) {
    if (place < 0 || place >= pictures.length) return turning;
    saveAll();
    turning = turning.then(async () => {
      try {
        const sheet = await opened(place), { name, size } = pictures[place];
        desk.take(sheet.mask, size, sheet.history); // ends a stroke on the picture before
        current = place;
        boards.drawBitmap(sheet.bitmap);
        boards.label(`${name}, ${size[0]} by ${size[1]} pixels`);
        at("picture-name").textContent = `${place + 1}. ${name}`;
        marks();
        rows[place].button.scrollIntoView({ block: "nearest" });
        say(`picture ${place + 1} of ${pictures.length}`);
        document.body.dataset.shown = String(place);
        if (!failed) trouble("");
      } catch (error) {
        trouble(`Picture ${place + 1} cannot be shown: ${error.message}.`);
      }
    });
    return turning;
  }

  async function finish() {
    const place = current, one = pictures[place];
    if (place < 0) return;
    one.done = !one.done;
    marks();
    say(one.done ? "done" : "not done yet");
    try {
      await source.setDone(one, one.done, place);
    } catch (error) {
      one.done = !one.done;
      marks();
      trouble(`Not saved: ${error.message}.`);
      return;
    }
    const left = pictures.findIndex((other, later) => later > place && !other.done);
    if (one.done && left >= 0) turn(left);
  }

  // -- files

  async function saveMasks() {
    const files = [];
    for (const [place, { name, size, changed }] of pictures.entries()) {
      if (!changed) continue;
      const { mask } = await opened(place);
      files.push({ name: `masks/${name}.png`, bytes: await maskPng(place === current ? desk.settled : mask, size, colours) });
    }
    if (!files.length) return say("no mask was changed");
    download(zipOf(files), "masks.zip", "application/zip");
    return say(`masks.zip saved: ${files.length} changed`);
  }

  /** Masks out of PNGs or zips, by their names; a single PNG of another name is one for this picture. */
  async function loadFiles(files) {
    const found = [];
    for (const file of files) {
      const packed = /\.zip$/i.test(file.name);
      if (file.size > (packed ? LARGEST_ZIP : LARGEST_FILE)) throw new Error(`${file.name} is too large`);
      const bytes = new Uint8Array(await file.arrayBuffer());
      const entries = packed ? await unzipped(bytes).catch((error) => { throw new Error(`${file.name} ${error.message}`); }) : [{ name: file.name, bytes }];
      found.push(...entries);
    }
    const wanted = new Map(pictures.map(({ name }, place) => [name, place])), read = [];
    for (const { name, bytes } of found) {
      const stem = name.slice(name.lastIndexOf("/") + 1).replace(/\.png$/i, "");
      const place = wanted.get(stem) ?? (found.length === 1 ? current : undefined);
      if (place === undefined) throw new Error(`${name} belongs to no picture here`);
      const mask = await readMaskPng(bytes, pictures[place].size, count).catch((error) => { throw new Error(`${name} ${error.message}`); });
      read.push({ place, mask });
    }
    for (const { place, mask } of read) { // all of them can be read: none is loaded otherwise
      const sheet = await opened(place);
      if (place === current) desk.replace(mask, "");
      else if (!same(mask, sheet.mask)) {
        sheet.history.keep(sheet.mask);
        sheet.mask = mask;
        touched(place);
      }
    }
    await saveAll();
    say(read.length === 1 ? `${files[0].name} loaded` : `${read.length} masks loaded`);
  }

  at("file").addEventListener("change", async () => {
    const files = [...at("file").files];
    at("file").value = "";
    try {
      if (files.length) await loadFiles(files);
      if (!failed) trouble("");
    } catch (error) {
      trouble(`${error.message}.`);
    }
  });

  const clicks = {
    previous: () => turn(current - 1), next: () => turn(current + 1), done: finish, "save-masks": saveMasks,
    draft: () => desk.replace(sheets[current].draft.slice(), "the draft again"),
    clear: () => desk.replace(new Uint8Array(state.mask.length).fill(UNKNOWN), "all unknown"),
  };
  for (const [id, action] of Object.entries(clicks)) at(id).addEventListener("click", action);
  window.addEventListener("beforeunload", (event) => {
    saveAll();
    if (sheets.some((sheet) => sheet?.dirty) || (!source.saved && pictures.some((one) => one.changed))) event.preventDefault();
  });
  document.addEventListener("visibilitychange", saveAll);

  at("title").textContent = data.title;
  source.restore(pictures);
  document.querySelector("main").hidden = false;
  const first = pictures.findIndex((one) => !one.done);
  return turn(first < 0 ? 0 : first);
}

async function beginning() {
  const data = inside("data");
  if (data) return { data, source: pageSource(data) };
  const token = keyOf(location), model = await (await asked("model", { headers: { [TOKEN]: token } })).json();
  return { data: model, source: servedSource(token, model) };
}

if (typeof document === "undefined") module.exports = { zipOf, unzipped };
else beginning().then(edit).catch((error) => cannot("show your pictures", error));
