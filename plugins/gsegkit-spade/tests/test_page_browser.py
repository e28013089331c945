"""A person paints in a browser: by mouse, finger and keys alone; what is saved, loaded, kept and refused."""

import hashlib
import re

import pytest
import torch
from gsegkit_spade.class_adaptive import ClassAdaptivePainter
from gsegkit_spade.config import ClassAdaptiveConfig
from gsegkit_spade.page import folded
from PIL import Image

from gsegkit.images import png_bytes, read_mask, to_pixels
from gsegkit.painting import Style, latents_of
from gsegkit.painting.examples import Examples
from gsegkit.painting.page import static_page
from gsegkit.painting.page.network import rounded
from gsegkit.testing.browsing import chromium, serious_findings

HOSTILE = ("ground", "</script><script>alert(1)//", "<b>cell</b> {{ 7 * 7 }} \u202e")
HEIGHT, WIDTH = 20, 24


@pytest.fixture(scope="module")
def painter():
    """Untrained, but with pictures of many colours; its weights are those that a page keeps."""
    made = ClassAdaptivePainter(ClassAdaptiveConfig(latent_dim=5, width=6, width_max=11))
    made.restore({"classes": list(HOSTILE), "train_size": [HEIGHT, WIDTH]})
    noise = torch.Generator().manual_seed(1)
    for name, value in made.network.state_dict().items():
        if value.is_floating_point() and "running" not in name:
            value.copy_(rounded(torch.randn(value.shape, generator=noise) * 0.15))
    made.network = folded(made.network)
    state = made.network.state_dict()
    made.network.load_state_dict({name: rounded(one) if ".norm." not in name else one for name, one in state.items()})
    return made.eval()


@pytest.fixture(scope="module")
def examples():
    """Two masks and pictures."""
    masks = torch.zeros(2, HEIGHT, WIDTH, dtype=torch.uint8)
    masks[0, 4:12, 5:15], masks[0, 6:9, 7:10] = 1, 2
    masks[1, 10:18, 2:20], masks[1, :, -3:] = 2, 255
    return Examples(masks[:, None].repeat(1, 3, 1, 1) * 40, masks, ("#8d939b", "#ff3b5c", "#2f8cff"))


@pytest.fixture(scope="module")
def visit(tmp_path_factory):
    """Open a page in one browser: (html, width, scheme) -> page; what the browser complains of is in `complaints`."""
    folder = tmp_path_factory.mktemp("a folder with spaces")
    with chromium(folder / "profile", has_touch=True) as browser:

        def visit(text, width=1280, scheme="light"):
            name = hashlib.sha256(text.encode()).hexdigest()[:8]
            (folder / f"{name}.html").write_text(text, encoding="utf-8")
            page, page_complaints = browser.new_page(), []
            page.on("pageerror", lambda error: page_complaints.append(str(error)))
            page.on("console", lambda one: page_complaints.append(one.text) if one.type == "error" else None)
            page.on("request", lambda one: page_complaints.append(one.url) if one.url.startswith("http") else None)
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            page.set_viewport_size({"width": width, "height": 800})
            page.goto((folder / f"{name}.html").as_uri())
            page.wait_for_selector("body[data-painted]")
            page.complaints = page_complaints
            return page

        yield visit


def saved(page, what, path):
    with page.expect_download() as download:
        page.locator(f"#save-{what}").click()
    download.value.save_as(path)
    return path


def mask_of(page, tmp_path):
    return read_mask(saved(page, "mask", tmp_path / "mask.png"))


def spot(page, x, y, board="mask"):
    """The middle of a pixel of the mask, in pixels of the window."""
    box = page.locator(f"#frame-{board} .sheet").bounding_box()
    return box["x"] + (x + 0.5) * box["width"] / WIDTH, box["y"] + (y + 0.5) * box["height"] / HEIGHT


def touch(page, places, board="picture"):
    """A finger that goes from place to place."""
    session = page.context.new_cdp_session(page)
    for kind, place in [("touchStart", places[0]), *(("touchMove", one) for one in places[1:]), ("touchEnd", None)]:
        points = [] if place is None else [dict(zip("xy", spot(page, *place, board), strict=True))]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})


def test_painting_by_mouse_finger_and_keys(visit, painter, examples, tmp_path):
    page = visit(static_page(painter, examples, "cells"))
    assert torch.equal(mask_of(page, tmp_path), examples.masks[0]), "it begins with an example"
    page.locator("#empty").click()
    wanted = torch.zeros(HEIGHT, WIDTH, dtype=torch.uint8)
    # a rectangle by the mouse, from one corner to another and back a little
    page.keyboard.press("1")
    page.keyboard.press("r")
    page.mouse.move(*spot(page, 3, 2))
    page.mouse.down()
    page.mouse.move(*spot(page, 20, 18))
    page.mouse.move(*spot(page, 12, 11))
    page.mouse.up()
    wanted[2:12, 3:13] = 1
    assert torch.equal(mask_of(page, tmp_path), wanted)
    # fill its inside with another class by a finger on the picture
    page.locator("#classes .class").nth(2).click()
    page.locator("#tool-fill").click()
    touch(page, [(5, 5)])
    wanted[2:12, 3:13] = 2
    assert torch.equal(mask_of(page, tmp_path), wanted)
    # a stroke by a finger that leaves the canvas, with a brush of one pixel
    page.keyboard.press("b")
    page.locator("#size").fill("1")
    touch(page, [(0, 19), (10, 19), (40, 19)])
    wanted[19] = 2
    assert torch.equal(mask_of(page, tmp_path), wanted)
    # Alt picks, a click alone paints
    page.keyboard.down("Alt")
    page.mouse.click(*spot(page, 20, 5))
    page.keyboard.up("Alt")
    assert "ground" in page.locator("#status").text_content()
    page.mouse.click(*spot(page, 4, 3))
    wanted[3, 4] = 0
    assert torch.equal(mask_of(page, tmp_path), wanted)
    # undo, redo; then keys alone: five to the right, paint there, draw three downwards
    page.keyboard.press("z")
    page.keyboard.press("z")
    page.keyboard.press("Control+Shift+z")
    wanted[3, 4] = 2
    assert torch.equal(mask_of(page, tmp_path), wanted)
    page.locator("#frame-mask").focus()
    page.keyboard.press("1")
    page.keyboard.press("Shift+ArrowRight")
    assert page.locator("#status").text_content() == f"ground, column {WIDTH // 2 + 6}, row {HEIGHT // 2 + 1}"
    page.keyboard.press("Enter")
    for _ in range(3):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Space")
    x, y = WIDTH // 2 + 5, HEIGHT // 2
    wanted[y : y + 4, x], wanted[y + 5, x] = 1, 1
    assert torch.equal(mask_of(page, tmp_path), wanted)
    # the picture is the one that Python paints, also of a mixed style with a class of its own; a reload keeps all
    page.locator("#seed").fill("77")
    page.locator("#seed").press("Enter")
    page.locator("#mixing summary").click()
    page.locator("#other").fill("5")
    page.locator("#other").press("Enter")
    page.locator("#mix").fill("25")
    page.locator("#classes .own").nth(2).click()
    regions = (None, int(re.search(r"style (\d+)", page.locator("#status").text_content())[1]), None)
    z = latents_of(painter, Style(77, 5, 0.25, regions))
    picture = to_pixels(painter.paint(wanted[None], z))[0].permute(1, 2, 0)
    page.wait_for_selector("body:not(.busy)")
    for again in (False, True):
        if again:
            page.reload()
            page.wait_for_selector("body[data-painted]")
        assert torch.equal(mask_of(page, tmp_path), wanted)
        with Image.open(saved(page, "picture", tmp_path / "picture.png")) as image:
            found = torch.tensor(list(image.tobytes())).view(HEIGHT, WIDTH, 3)
        assert (found - picture.int()).abs().max() <= 1
    assert page.complaints == []
    page.close()


def test_masks_are_loaded_or_refused_and_pages_fit(visit, painter, examples, tmp_path):
    text = static_page(painter, examples, "cells " * 9)
    page = visit(text, 360, "dark")
    mask = examples.masks[1]
    files_of = {
        "good.png": png_bytes(mask),
        "<b>.png": png_bytes(torch.full_like(mask, 3)),
        "x.png": b"\x89PNG\r\n\x1a\n",
    }
    for name, data in files_of.items():
        page.locator("#file").set_input_files({"name": name, "mimeType": "image/png", "buffer": data})
        if name == "good.png":
            page.wait_for_selector("#status >> text=good.png loaded")
    page.wait_for_selector("#problem >> text=x.png is damaged.")
    assert torch.equal(mask_of(page, tmp_path), mask), "a refused mask changes nothing"
    for width, scheme in ((360, "dark"), (1280, "light"), (1920, "dark")):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 800})
        page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert serious_findings(page) == [], (width, scheme)
    assert page.locator("#classes .class span").all_text_contents() == list(HOSTILE)
    assert page.complaints == []
    page.close()


def test_only_the_newest_wish_is_painted(visit, painter, examples):
    """Many changes while a picture is being painted make one more picture, and it is the last one."""
    page = visit(static_page(painter, Examples(examples.pixels[:0], examples.masks[:0], examples.colours), "x"))
    before = int(page.locator("body").get_attribute("data-painted"))
    page.evaluate("for (let i = 0; i < 40; i += 1) document.getElementById('style-new').click()")
    page.wait_for_selector("body:not(.busy)")
    assert int(page.locator("body").get_attribute("data-painted")) - before <= 3
    assert page.complaints == []
    page.close()
