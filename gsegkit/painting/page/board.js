// ---- the boards: mask and picture, which are painted on alike, by mouse, pen, finger or keys --------------------------

const ZOOMS = [1, 1.5, 2, 3, 4, 6, 8];
// of what is unknown, as bytes of opacity, blue, green and red: dark and light, to be seen on any picture; null is clear
const HATCH = [null, 0xff4a4642, null, 0xfff4f2f0];
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/**
 * `hand` is told what is done: begin(place, {pick, erase}), move(places), end(), hover(place or null), at(place) when the
 * cursor of the keys moves, moves() = whether a drag moves the sheet. Places are in pixels of the mask.
 */
function makeBoards(root, size, hand) {
  let [width, height] = size;
  const boards = [...root.querySelectorAll(".frame")].map((frame) => {
    const find = (name) => frame.querySelector(`.${name}`);
    const contexts = ["picture", "mask"].map((name) => find(name).getContext("2d"));
    return { frame, sheet: find("sheet"), ghost: find("ghost"), contexts, opaque: frame.dataset.shows === "mask" };
  });
  const cursor = [Math.floor(width / 2), Math.floor(height / 2)];
  let pointer = null; // what is down: {id, drag}
  let penDown = false; // of the keys
  let zoom = 0;

  function resize(dimensions) {
    [width, height] = dimensions;
    for (const { frame, contexts } of boards) {
      for (const { canvas } of contexts) Object.assign(canvas, { width, height });
      frame.style.aspectRatio = `${width} / ${height}`;
    }
    cursor.splice(0, 2, Math.floor(width / 2), Math.floor(height / 2));
  }

  function placeOf({ sheet }, event) {
    const box = sheet.getBoundingClientRect(); // CSS pixels are no pixels of the mask
    return [((event.clientX - box.left) / box.width) * width, ((event.clientY - box.top) / box.height) * height];
  }

  function down(board, event) {
    if (pointer !== null || (event.pointerType === "mouse" && event.button > 1)) return;
    event.preventDefault(); // no selection, no scrolling by the middle button
    board.frame.focus({ preventScroll: true });
    board.frame.setPointerCapture(event.pointerId);
    const drag = event.button === 1 || hand.moves();
    pointer = { id: event.pointerId, drag, x: event.clientX, y: event.clientY };
    if (!drag) hand.begin(placeOf(board, event), { pick: event.altKey, erase: Boolean(event.buttons & 32) });
  }

  function move(board, event) {
    hand.hover(placeOf(board, event));
    if (pointer?.id !== event.pointerId) return;
    if (pointer.drag) {
      board.frame.scrollBy(pointer.x - event.clientX, pointer.y - event.clientY);
      Object.assign(pointer, { x: event.clientX, y: event.clientY });
      return;
    }
    const all = event.getCoalescedEvents?.() ?? [];
    hand.move((all.length ? all : [event]).map((one) => placeOf(board, one)));
  }

  function up(event) {
    if (pointer?.id !== event.pointerId) return;
    const { drag } = pointer;
    pointer = null;
    if (!drag) hand.end();
  }

  /** Keys on a board; true where the key was one of its own. */
  function key(event) {
    const middle = () => [cursor[0] + 0.5, cursor[1] + 0.5];
    if (ARROWS[event.key]) {
      [width, height].forEach((limit, axis) => {
        const there = cursor[axis] + ARROWS[event.key][axis] * (event.shiftKey ? 5 : 1);
        cursor[axis] = Math.max(0, Math.min(limit - 1, there));
      });
      if (penDown) hand.move([middle()]);
      hand.at(middle());
    } else if (event.key === " ") {
      if (!penDown) hand.begin(middle(), { pick: event.altKey, erase: false });
      if (!penDown) hand.end();
    } else if (event.key === "Enter") {
      if (penDown) hand.end();
      else hand.begin(middle(), { pick: false, erase: false });
      penDown = !penDown;
    } else return false;
    return true;
  }

  for (const board of boards) {
    const { frame } = board, other = boards.find((one) => one !== board);
    frame.addEventListener("pointerdown", (event) => down(board, event));
    frame.addEventListener("pointermove", (event) => move(board, event));
    frame.addEventListener("pointerup", up);
    frame.addEventListener("pointercancel", up);
    frame.addEventListener("pointerleave", () => hand.hover(null));
    frame.addEventListener("focus", () => hand.at(null));
    frame.addEventListener("scroll", () => Object.assign(other.frame, { scrollLeft: frame.scrollLeft, scrollTop: frame.scrollTop }));
    frame.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || !key(event)) return;
      event.preventDefault();
      event.stopPropagation();
    });
    frame.addEventListener("wheel", (event) => {
      if (!event.ctrlKey) return;
      event.preventDefault();
      zoomBy(event.deltaY < 0 ? 1 : -1);
    }, { passive: false });
  }

  /** Zoom in or out by some steps; what is in the middle stays there. */
  function zoomBy(steps) {
    zoom = Math.max(0, Math.min(ZOOMS.length - 1, zoom + steps));
    const middles = boards.map(({ frame }) => [
      (frame.scrollLeft + frame.clientWidth / 2) / frame.scrollWidth, (frame.scrollTop + frame.clientHeight / 2) / frame.scrollHeight,
    ]);
    root.style.setProperty("--zoom", ZOOMS[zoom]);
    boards.forEach(({ frame }, place) => {
      frame.scrollLeft = middles[place][0] * frame.scrollWidth - frame.clientWidth / 2;
      frame.scrollTop = middles[place][1] * frame.scrollHeight - frame.clientHeight / 2;
    });
    return ZOOMS[zoom];
  }

  resize(size);

  return {
    resize, zoomBy,
    label: (text) => boards.forEach(({ frame }) => frame.setAttribute("aria-label", `${frame.dataset.shows === "mask" ? "Mask" : "Picture"}, ${text}`)),

    /** Colours are [r, g, b] by class; the background lets the picture through, and what is unknown is hatched. */
    drawMask(mask, colours) {
      const band = Math.max(1, Math.round(Math.max(width, height) / 64));
      for (const { contexts, opaque } of boards) {
        const image = new ImageData(width, height), words = new Uint32Array(image.data.buffer);
        const table = Uint32Array.from({ length: 256 }, (_, value) => {
          const [red, green, blue] = colours[value] ?? [255, 255, 255];
          return value || opaque ? ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0 : 0; // every browser is little-endian
        });
        const clear = opaque ? 0xffb4b0ac : 0;
        for (let place = 0, y = 0; y < height; y += 1) {
          for (let x = 0; x < width; x += 1, place += 1) {
            words[place] = mask[place] !== UNKNOWN ? table[mask[place]] : HATCH[Math.floor((x + y) / band) % 4] ?? clear;
          }
        }
        contexts[1].putImageData(image, 0, 0);
      }
    },
    drawBitmap: (bitmap) => boards.forEach(({ contexts }) => contexts[0].drawImage(bitmap, 0, 0, width, height)),
    drawPicture: (pixels) => boards.forEach(({ contexts }) => contexts[0].putImageData(new ImageData(pixels, width, height), 0, 0)),

    /** Where a brush would paint, on both boards; no place = nowhere. */
    showGhost(place, { size, square }, colour) {
      for (const { ghost } of boards) {
        ghost.hidden = !place;
        if (!place) continue;
        const corner = place.map((at) => (size % 2 ? Math.floor(at) + 0.5 : Math.round(at)) - size / 2);
        ghost.classList.toggle("square", square || size === 1);
        Object.assign(ghost.style, {
          left: `${(100 * corner[0]) / width}%`, top: `${(100 * corner[1]) / height}%`,
          width: `${(100 * size) / width}%`, height: `${(100 * size) / height}%`,
        });
        ghost.style.setProperty("--class", colour);
      }
    },
  };
}
