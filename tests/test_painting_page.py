"""The painting page: its masks, its PNG files, its latents, and what is in it."""

import base64
import hashlib
import io
import json
import re
import shutil
import subprocess
from importlib.resources import files

import pytest
import torch
from PIL import Image

from gsegkit.colours import display_palette
from gsegkit.config import Config
from gsegkit.dataset import MemoryDataset
from gsegkit.errors import ArtifactError, ConfigError
from gsegkit.images import png_bytes, read_mask
from gsegkit.painting import PageNetwork, Painter, Style, check_canvas, latents_of
from gsegkit.painting.examples import EXAMPLES_FILE, Examples, examples_of, stored_examples
from gsegkit.painting.page import page_data, policy, render, static_page
from gsegkit.painting.page.network import packed, rounded, worker_script
from gsegkit.painting.page.render import SCRIPTS
from gsegkit.rundir import RunFolder

NODE = shutil.which("node")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
PAGE = files("gsegkit.painting.page")

HOSTILE = ("ground", "</script><script>alert(1)//", "<b>cell</b> {{ 7 * 7 }} \u202e")
HEIGHT, WIDTH = 20, 24

#: A network of few numbers: the class's level, plus the latent of its row.
SCRIPT = """
function makeNetwork(tensors, { size, dim }) {
  return (mask, latents) => {
    const pixels = new Float32Array(3 * size);
    pixels.forEach((_, place) => {
      const value = mask[place % size], row = value === 255 ? 0 : value + 1;
      pixels[place] = Math.tanh((tensors.levels[value] ?? 0) + 0.5 * latents[row * dim + Math.floor(place / size)]);
    });
    return pixels;
  };
}
"""


class Levels(Painter):
    """What SCRIPT paints."""

    region_styles = True

    def __init__(self, classes=HOSTILE, size=(HEIGHT, WIDTH), runs_in_page=True):
        super().__init__(Config())
        self.classes, self.train_size, self.latent_dim = classes, size, 3
        self.levels = torch.nn.Parameter(torch.linspace(-0.8, 0.8, len(classes)).half().float())
        self.runs_in_page = runs_in_page

    def fit(self, dataset, ctx, *, segmenter=None):
        """Nothing to learn."""

    def paint(self, masks, z):
        check_canvas(self, masks, z)
        rows = z if z.ndim == 3 else z[:, None].expand(-1, 1 + len(self.classes), -1)
        known = masks != 255
        row = torch.where(known, masks.long() + 1, 0)
        level = torch.where(known, self.levels.detach()[masks.long().clamp(max=len(self.classes) - 1)], 0.0)
        own = torch.stack([rows[i][row[i]] for i in range(len(masks))]).permute(0, 3, 1, 2)
        return (level[:, None] + 0.5 * own).tanh()

    def in_page(self):
        if not self.runs_in_page:
            return None
        facts = {"size": self.train_size[0] * self.train_size[1], "dim": self.latent_dim}
        return PageNetwork(SCRIPT, {"levels": self.levels.detach()}, facts)


def drawn():
    """Three example masks and their pictures."""
    masks = torch.zeros(3, HEIGHT, WIDTH, dtype=torch.uint8)
    masks[0, 4:12, 5:15], masks[0, 6:9, 7:10] = 1, 2
    masks[1, 10:18, 2:20], masks[2, :, -3:] = 2, 255
    return Examples(
        display_palette()[masks.long()].permute(0, 3, 1, 2), masks, ("#8d939b", "#ff3b5c", "#2f8cff"), ("CC",)
    )


def run_node(script, *args):
    """What a script prints as JSON; `module` is the page's own script."""
    text = "".join(PAGE.joinpath(name).read_text("utf-8") for name in SCRIPTS) + f"\n(async () => {{ {script} }})();"
    done = subprocess.run([NODE, "-", *map(str, args)], input=text, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


# ---- plain JavaScript -----------------------------------------------------------------------------------------------


@pytest.mark.skipif(NODE is None, reason="needs node")
def test_drawing_on_a_mask():
    shapes = run_node("""
    const size = [7, 5], empty = () => new Uint8Array(35), rows = (mask) => Array.from({ length: 5 }, (_, y) => [...mask.subarray(7 * y, 7 * y + 7)].join(""));
    const at = (draw) => { const mask = empty(); draw(mask); return rows(mask); };
    const walls = Uint8Array.from("1100000" + "0010000" + "0100000" + "1000000" + "0000000");
    fill(walls, size, [0.5, 1.5], 3);
    const history = makeHistory(35), large = makeHistory(4 << 20);
    for (let i = 0; i < 20; i += 1) large.keep(Uint8Array.of(i));
    let few = 0;
    for (; large.undo(Uint8Array.of(9)); few += 1);
    for (let i = 0; i < 120; i += 1) history.keep(Uint8Array.of(i));
    let steps = 0, last = Uint8Array.of(120);
    for (let mask = last; mask; steps += 1) { last = mask; mask = history.canUndo ? history.undo(mask) : null; }
    console.log(JSON.stringify([
      at((mask) => stamp(mask, size, [3.2, 2.9], { size: 1 }, 1)),
      at((mask) => stamp(mask, size, [3.2, 2.1], { size: 2 }, 1)),
      at((mask) => stamp(mask, size, [3.5, 2.5], { size: 5 }, 1)),
      at((mask) => stroke(mask, size, [-3, 0.5], [9.5, 4.5], { size: 1 }, 1)),
      at((mask) => rectangle(mask, size, [5.9, 3.2], [-2, 1], 2)),
      rows(walls), steps - 1, last[0], history.redo(last)[0], few,
      [..."0 7 4294967294 4294967295 -1 1e3 x".split(" ").map(seedIn), seedIn(" 12 ")],
      Array.from(packedStyle({ seed: 7, other: 0xfffffffe, mix: 0.25, regions: [null, 3] }), (byte) => byte.toString(16).padStart(2, "0")).join(""),
    ]));
    """)
    one, two, five, line, box, walls, steps, first, again, few, seeds, style = shapes
    assert one == ["0000000", "0000000", "0001000", "0000000", "0000000"]
    assert two == ["0000000", "0011000", "0011000", "0000000", "0000000"]
    assert five == ["0011100", "0111110", "0111110", "0111110", "0011100"]
    assert ["1" in row for row in line] == [False, True, True, True, False]
    assert [column.count("1") for column in zip(*line, strict=True)] == [1] * 7, "no gap, no corner twice"
    assert box == ["0000000", "2222220", "2222220", "2222220", "0000000"]
    assert walls == ["1100000", "3310000", "3100000", "1000000", "0000000"], "corners do not connect"
    assert (steps, first, again) == (100, 20, 21)
    assert few == 16, "of large masks fewer: 64 MiB"
    assert seeds == [0, 7, 4294967294, None, None, None, None, 12]
    assert style == Style(7, 0xFFFFFFFE, 0.25, (None, 3)).pack(2).hex()


def base(data):
    return base64.b64encode(data).decode()


@pytest.mark.skipif(NODE is None, reason="needs node")
def test_masks_and_pictures_as_png(tmp_path):
    mask = torch.randint(0, 3, (HEIGHT, WIDTH), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    mask[0, 0] = 255
    pixels = torch.randint(0, 256, (3, HEIGHT, WIDTH), generator=torch.Generator().manual_seed(2)).to(torch.uint8)
    rgba = torch.cat([pixels, torch.full((1, HEIGHT, WIDTH), 255)]).permute(1, 2, 0).flatten().tolist()

    def file(array, mode="L", **options):
        Image.fromarray(array.numpy(), mode).save(out := io.BytesIO(), "PNG", **options)
        return out.getvalue()

    indexed = Image.fromarray(mask.clamp(max=2).numpy(), "P")
    indexed.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    indexed.save(small := io.BytesIO(), "PNG", bits=2)
    ramp = (torch.arange(HEIGHT * WIDTH).view(HEIGHT, WIDTH) // 300).to(torch.uint8)  # packed by filters
    good = [png_bytes(mask), file(mask), small.getvalue(), file(ramp, optimize=True)]
    Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(colours := io.BytesIO(), "PNG")
    bad = {
        "holds the class 3; here are 0 to 2, and 255 for unknown": file(torch.full_like(mask, 3)),
        f"has {HEIGHT} x {WIDTH} pixels; masks here have {WIDTH} x {HEIGHT}": file(mask.T.contiguous()),
        "holds colours, not classes; save it as an 8-bit index PNG": colours.getvalue(),
        "is not a PNG": b"GIF89a" + bytes(40),
        "is damaged": file(mask)[:-60],
    }
    (tmp_path / "work.json").write_text(
        json.dumps([mask.flatten().tolist(), rgba, [*map(base, good)], [*map(base, bad.values())]])
    )
    saved, picture, read, said = run_node(
        """
    const [mask, rgba, good, bad] = JSON.parse(require("fs").readFileSync(process.argv[2]));
    const size = [24, 20], bytes = (text) => Uint8Array.from(Buffer.from(text, "base64"));
    const read = (text) => readMaskPng(bytes(text), size, 3);
    console.log(JSON.stringify([
      toBase64(await maskPng(Uint8Array.from(mask), size, ["#8d939b", "#ff3b5c", "#2f8cff"])),
      toBase64(await picturePng(Uint8ClampedArray.from(rgba), size)),
      await Promise.all(good.map(async (text) => [...await read(text)])),
      await Promise.all(bad.map((text) => read(text).then(() => "fine", (error) => error.message)))]));
    """,
        tmp_path / "work.json",
    )
    (tmp_path / "mask.png").write_bytes(base64.b64decode(saved))
    assert torch.equal(read_mask(tmp_path / "mask.png"), mask)
    with Image.open(tmp_path / "mask.png") as image:
        assert image.mode == "P"
        assert image.getpalette()[3:6] == [0xFF, 0x3B, 0x5C]
    with Image.open(io.BytesIO(base64.b64decode(picture))) as image:
        assert image.mode == "RGB"
        assert list(image.tobytes()) == pixels.permute(1, 2, 0).flatten().tolist()
    assert read == [one.flatten().tolist() for one in (mask, mask, mask.clamp(max=2), ramp)]
    assert said == list(bad)


@pytest.mark.skipif(NODE is None, reason="needs node")
def test_latents_of_the_page_are_those_of_python(tmp_path):
    painter, seeds = Levels(), [0, 1, 7, 123456, 4294967294]
    painter.latent_dim = 7
    (tmp_path / "worker.js").write_text(worker_script(painter.in_page()))
    script = f"""
    const {{ latentOf, latentsOf }} = require({json.dumps(str(tmp_path / "worker.js"))});
    const mixed = latentsOf({{ seed: 1, other: 7, mix: 0.3, regions: [null, 0, null] }}, 7);
    console.log(JSON.stringify([{seeds}.map((seed) => [...latentOf(seed, 7)]), [...mixed]]));
    """
    found, mixed = json.loads(
        subprocess.run([NODE, "-e", script], capture_output=True, text=True, check=True).stdout
    )  # fmt: skip
    assert (torch.tensor(found) - painter.latents(torch.tensor(seeds))).abs().max() < 1e-6
    wanted = latents_of(painter, Style(1, 7, 0.3, (None, 0, None)))
    assert (torch.tensor(mixed).view(1, 4, 7) - wanted).abs().max() < 1e-6


@pytest.mark.skipif(NODE is None, reason="needs node")
def test_half_precision_keeps_tiny_numbers(tmp_path):
    values = torch.tensor([0.0, -0.0, 1.0, 3e-5, 1e-7, -0.37, 900.0, 1e-9])
    tiny = values[3:5] * 1e-3
    (tmp_path / "worker.js").write_text(worker_script(Levels().in_page()))
    script = f"""
    const {{ decoded }} = require({json.dumps(str(tmp_path / "worker.js"))});
    console.log(JSON.stringify({json.dumps([packed(values), packed(tiny), packed(torch.zeros(2))])}.map((one) => [...decoded(one)])));
    """
    done = subprocess.run([NODE, "-e", script], capture_output=True, text=True, check=True)
    assert [torch.tensor(one).tolist() for one in json.loads(done.stdout)] == [
        rounded(values).tolist(), rounded(tiny).tolist(), [0.0, 0.0],
    ]  # fmt: skip
    assert torch.allclose(rounded(values), values, rtol=2**-11, atol=1024 * 2**-25)
    assert torch.allclose(rounded(tiny), tiny, rtol=1e-3), "each tensor has its own scale"


# ---- what is in the page --------------------------------------------------------------------------------------------


def test_the_page_needs_nothing_and_names_are_data():
    text = static_page(Levels(), drawn(), "<i>cells</i>\udc80")
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.S)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy(static=True) in text.replace("&#39;", "'")
    assert f"script-src 'sha256-{digest}'; worker-src blob:; img-src data:;" in policy(static=True)
    assert set(re.findall(r"https?://[^\"' ]*", text)) <= {"http://www.w3.org/2000/svg"}, "a namespace, no address"
    assert "<script>alert" not in text
    assert "<i>cells" not in text
    assert [one["name"] for one in page_data(Levels(), drawn(), "")["classes"]] == list(HOSTILE)
    served = render()
    assert 'id="data"' not in served
    assert "connect-src 'self'" in served.replace("&#39;", "'")
    assert "blob:" not in policy(static=False)


def test_what_cannot_be_a_page_is_refused(tmp_path):
    class Heavy(Levels):
        def in_page(self):
            return PageNetwork(SCRIPT, {"levels": torch.zeros(2_300_000)}, {})

    examples = drawn()
    with pytest.raises(ConfigError, match="at most 128 px, and this painter has 24 x 130") as caught:
        static_page(Levels(size=(130, 24)), examples, "")
    assert caught.value.hint
    with pytest.raises(ConfigError, match="does not run in a page"):
        static_page(Levels(runs_in_page=False), examples, "")
    with pytest.raises(ConfigError, match=r"would have 6\.\d MB"):
        static_page(Heavy(), examples, "")


def test_examples_show_every_class_and_are_kept(tmp_path):
    masks = torch.zeros(200, HEIGHT, WIDTH, dtype=torch.uint8)
    masks[:, :4], masks[110, 8:15, 8:15] = 1, 2  # class 2 is in one mask
    masks[::2, -3:], masks[0, -6:] = 255, 255
    pairs = MemoryDataset(torch.zeros(200, 3, HEIGHT, WIDTH, dtype=torch.uint8), masks, HOSTILE)
    run = RunFolder(tmp_path / "run")
    run.write_config({})
    run.write_status("done", licences=[["unet", "MIT"], ["generator weights", "CC BY 4.0"], "x"])
    made = examples_of(pairs, run.path)
    assert len(made.masks) == 16
    assert 2 in made.masks
    unknown = (made.masks == 255).sum(dim=(1, 2)).tolist()
    assert unknown == sorted(unknown), "a page begins with a mask that is known everywhere"
    assert unknown[0] < unknown[-1]
    assert made.colours[0] != "#000000"
    assert made.licences == ("Weights of the generator: CC BY 4.0.",)
    made.save(tmp_path)
    again = stored_examples(tmp_path, Levels())
    assert torch.equal(again.masks, made.masks)
    assert again.colours == made.colours
    none = stored_examples(run.path, Levels())
    assert len(none.masks) == 0
    assert len(set(none.colours)) == 3
    for other in (Levels(("a", "b")), Levels(size=(HEIGHT, 9))):
        with pytest.raises(ArtifactError, match="another painter"):
            stored_examples(tmp_path, other)
    data = bytearray((tmp_path / EXAMPLES_FILE).read_bytes())
    data[-5] ^= 1
    (tmp_path / EXAMPLES_FILE).write_bytes(data)
    with pytest.raises(ArtifactError, match="damaged") as caught:
        stored_examples(tmp_path, Levels())
    assert "train the painter again" in caught.value.hint
