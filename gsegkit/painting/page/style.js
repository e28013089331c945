// ---- styles: seeds, one mixed into another, one for a class; and your mask in other styles ---------------------------

const LARGEST_SEED = 0xfffffffe;
const OTHERS = 6; // styles that are shown beside the own one
const IDLE = 350; // milliseconds without a change, before they are painted

/** A number that is easy to read out. */
const freshSeed = () => crypto.getRandomValues(new Uint32Array(1))[0] % 1000000;

/** The seed in a text field, null where there is none. */
function seedIn(text) {
  const seed = /^\s*\d{1,10}\s*$/.test(text) ? Number(text) : NaN;
  return seed <= LARGEST_SEED ? seed : null;
}

/** The panel of styles. `style` is changed in place, then `changed(words)` is called; `paint` paints what is passed. */
function makeStyles(at, make, style, changed, say) {
  const past = [];
  let locked = false, shown = [], round = 0;

  function take(seed, words = `style ${seed}`) {
    if (locked) return say("the style is locked");
    if (seed === style.seed) return undefined;
    past.push(style.seed);
    style.seed = seed;
    return set(words);
  }

  function set(words) {
    render();
    changed(words);
  }

  function back() {
    if (locked) return say("the style is locked");
    if (!past.length) return say("there is no style before this one");
    style.seed = past.pop();
    return set(`style ${style.seed}`);
  }

  function field(id, use) {
    at(id).addEventListener("change", () => {
      const seed = seedIn(at(id).value);
      if (seed === null) say(`a style is a number from 0 to ${LARGEST_SEED.toLocaleString("en")}`);
      else use(seed);
      render();
    });
  }

  /** A class's own style; null = as the picture. */
  function region(place, seed, name) {
    style.regions[place] = seed;
    set(seed === null ? `${name} looks as the picture does` : `${name} has style ${seed}`);
  }

  function render() {
    at("seed").value = style.seed;
    at("other").value = style.other;
    at("mix").value = Math.round(100 * style.mix);
    at("mix").setAttribute("aria-valuetext", `${Math.round(100 * style.mix)} percent of style ${style.other}`);
    at("lock").setAttribute("aria-pressed", String(locked));
    at("style-back").disabled = locked || !past.length;
    for (const id of ["style-new", "seed"]) at(id).disabled = locked;
    for (const button of at("others").children) button.disabled = locked;
  }

  // -- your mask in other styles: painted while nothing else is to be done

  const others = Array.from({ length: OTHERS }, () => {
    const canvas = make("canvas", { "aria-hidden": "true" });
    const button = make("button", { type: "button", hidden: true }, canvas);
    at("others").append(button);
    return { button, canvas };
  });
  others.forEach(({ button }, place) => button.addEventListener("click", () => take(shown[place])));

  /** Paint them; `paint(style)` gives ImageData, or null as soon as something else is to be painted. */
  async function showOthers(paint) {
    round += 1;
    const mine = round;
    await new Promise((resolve) => setTimeout(resolve, IDLE));
    for (const [place, { button, canvas }] of others.entries()) {
      if (mine !== round) return;
      shown[place] ??= freshSeed();
      if (shown[place] === style.seed) shown[place] = freshSeed();
      const image = await paint({ ...style, seed: shown[place], mix: 0 });
      if (!image || mine !== round) return;
      Object.assign(canvas, { width: image.width, height: image.height });
      canvas.getContext("2d").putImageData(image, 0, 0);
      button.hidden = false;
      button.title = `Style ${shown[place]}`;
      button.setAttribute("aria-label", `Take style ${shown[place]}`);
    }
  }

  at("style-new").addEventListener("click", () => fresh());
  at("style-back").addEventListener("click", back);
  at("lock").addEventListener("click", () => {
    locked = !locked;
    render();
    say(locked ? "the style is locked" : "the style is free again");
  });
  field("seed", (seed) => take(seed));
  field("other", (seed) => { style.other = seed; changed(`second style ${seed}`); });
  at("other-new").addEventListener("click", () => {
    style.other = freshSeed();
    if (!style.mix) style.mix = 0.5;
    set(`second style ${style.other}`);
  });
  at("mix").addEventListener("input", () => {
    style.mix = Number(at("mix").value) / 100;
    at("mix").setAttribute("aria-valuetext", `${at("mix").value} percent of style ${style.other}`);
    changed("");
  });

  /** Another style, and other ones beside it. */
  function fresh() {
    if (!locked) shown = [];
    take(freshSeed());
  }

  return {
    back, fresh, region, render, showOthers,
    stop: () => { round += 1; },
    get locked() { return locked; },
    set locked(value) { locked = value; },
  };
}
