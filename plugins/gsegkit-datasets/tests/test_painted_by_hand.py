"""A person paints masks in a browser, by mouse, finger and keys; the reader of folders takes what comes of it."""

import json
import threading
import zipfile

import gsegkit_datasets
import pytest
import torch
from PIL import Image

from gsegkit.api import paint_page, paint_server
from gsegkit.images import png_bytes, read_mask, write_png
from gsegkit.plugins import Registry
from gsegkit.testing.browsing import chromium, serious_findings

REGISTRY = Registry()
REGISTRY.add(gsegkit_datasets, "gsegkit-datasets")
HOSTILE = "</script><script>alert(1)//"
NAMES = ("ground", "leaf", HOSTILE)
SIZES = {"11": (20, 24), "22": (20, 24), "wide": (12, 40)}
UNKNOWN = 255


@pytest.fixture
def todo(tmp_path):
    """Two pictures with drafts, as `gsegkit annotate` leaves them, and one without any mask."""
    folder = tmp_path / "to <i>do</i>"
    noise = torch.Generator().manual_seed(1)
    for name, size in SIZES.items():
        write_png(folder / "images" / f"{name}.png", torch.randint(0, 256, (3, *size), generator=noise).to(torch.uint8))
    for name in ("11", "22"):
        for inner in ("masks", "drafts"):
            write_png(folder / inner / f"{name}.png", draft())
    (folder / "classes.yaml").write_text(json.dumps(NAMES))
    (folder / "annotate.json").write_text(json.dumps({"colours": ["#8d939b", "#19d3e6"]}))
    return folder


def draft():
    mask = torch.zeros(20, 24, dtype=torch.uint8)
    mask[4:12, 5:15], mask[14:, :4] = 1, UNKNOWN
    return mask


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("editor") / "profile", has_touch=True) as context:
        yield context


def opened(browser, address, scheme="light", width=1280):
    page, page_complaints, asked = browser.new_page(), [], []
    page.on("pageerror", lambda error: page_complaints.append(str(error)))
    page.on("console", lambda one: page_complaints.append(one.text) if one.type == "error" else None)
    page.on("request", lambda one: asked.append(one.url.split("#")[0]) if one.url.startswith("http") else None)
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(address)
    page.wait_for_selector("body[data-shown]")
    page.complaints, page.asked = page_complaints, asked
    return page


def spot(page, name, x, y):
    """The middle of a pixel of the mask over the picture, in pixels of the window."""
    box = page.locator("#frame-picture .sheet").bounding_box()
    height, width = SIZES[name]
    return box["x"] + (x + 0.5) * box["width"] / width, box["y"] + (y + 0.5) * box["height"] / height


def box(page, name, start, end):
    page.locator("#tool-rectangle").click()
    page.mouse.move(*spot(page, name, *start))
    page.mouse.down()
    page.mouse.move(*spot(page, name, *end), steps=3)
    page.mouse.up()


def touch(page, name, places):
    session = page.context.new_cdp_session(page)
    for kind, place in [("touchStart", places[0]), *(("touchMove", one) for one in places[1:]), ("touchEnd", None)]:
        points = [] if place is None else [dict(zip("xy", spot(page, name, *place), strict=True))]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})


def shown(page, place):
    page.wait_for_selector(f"body[data-shown='{place}']")


def settled(page):
    page.wait_for_selector("body[data-saved='true']")


def test_masks_are_saved_into_the_folder(browser, todo):
    with paint_server(todo) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        page = opened(browser, server.url)
        wanted = draft()
        # by the mouse, over the picture: a box of class 1
        page.keyboard.press("1")
        box(page, "11", (18, 2), (22, 6))
        wanted[2:7, 18:23] = 1
        # what was unknown is filled by a finger
        page.locator("#classes .class").nth(2).click()
        page.locator("#tool-fill").click()
        touch(page, "11", [(1, 17)])
        wanted[14:, :4] = 2
        # unknown is a class to paint, and what the eraser leaves; a stroke that is undone
        page.keyboard.press("u")
        assert page.locator("#classes .unknown").get_attribute("aria-pressed") == "true"
        box(page, "11", (5, 4), (7, 6))
        wanted[4:7, 5:8] = UNKNOWN
        page.keyboard.press("e")
        page.locator("#size").fill("1")
        touch(page, "11", [(10, 0), (20, 0)])
        wanted[0, 10:21] = UNKNOWN
        page.keyboard.press("g")
        page.mouse.click(*spot(page, "11", 12, 8))
        page.keyboard.press("z")
        # done, and on; by keys alone on a picture of another size, which has no mask yet
        page.keyboard.press("d")
        shown(page, 1)
        page.keyboard.press("n")
        shown(page, 2)
        page.keyboard.press("b")
        page.keyboard.press("0")
        page.locator("#frame-picture").focus()
        page.keyboard.press("Space")
        other = torch.full(SIZES["wide"], UNKNOWN, dtype=torch.uint8)
        other[6, 20] = 0
        settled(page)
        assert page.locator("#list button").nth(0).get_attribute("aria-label") == "Picture 1 of 3, 11, changed, done"
        assert page.locator("#list button").nth(1).get_attribute("aria-label") == "Picture 2 of 3, 22"
        assert page.locator("#progress").text_content() == "1 of 3 done"
        assert page.locator("#classes .class span").all_text_contents() == [*NAMES, "unknown"]
        address = f"http://127.0.0.1:{server.port}/"
        assert set(page.asked) == {address, *(address + name for name in ("model", "masks", "picture", "mask", "done"))}
        # the reader takes the folder as it is
        data = REGISTRY.build("dataset", "folder", {}).labelled(todo)
        assert data.classes == NAMES
        assert [sample.name for sample in data] == ["11", "22", "wide"]
        for index, mask in enumerate((wanted, draft(), other)):
            assert torch.equal(data[index].mask, mask)
        with Image.open(todo / "masks" / "11.png") as image:
            assert image.getpalette()[3:6] == [0x19, 0xD3, 0xE6]
        assert torch.equal(read_mask(todo / "drafts" / "11.png"), draft())
        assert json.loads((todo / "annotate.json").read_text())["done"] == ["11"]
        # a reload shows what is there, and begins with what is not done; the draft is a click away
        page.reload()
        shown(page, 1)
        page.keyboard.press("p")
        shown(page, 0)
        page.locator("#draft").click()
        settled(page)
        assert torch.equal(read_mask(todo / "masks" / "11.png"), draft())
        # what another program wrote meanwhile is not written over; what was painted can be taken along
        write_png(todo / "masks" / "11.png", wanted)
        page.locator("#clear").click()
        page.wait_for_selector("#problem >> text=changed by another page or program")
        assert torch.equal(read_mask(todo / "masks" / "11.png"), wanted)
        assert page.complaints == [
            "Failed to load resource: the server responded with a status of 412 (Precondition Failed)"
        ]
        page.close()
        server.shutdown()
        thread.join(20)


def test_a_page_that_needs_no_server(browser, todo, tmp_path):
    path = paint_page(todo)
    assert path == todo / "editor.html"
    text = path.read_text(encoding="utf-8")
    assert "<script>alert" not in text
    assert "<i>do" not in text
    before = {one: one.read_bytes() for one in todo.rglob("*.png")}
    page = opened(browser, path.as_uri(), "dark", 360)
    for width, scheme in ((360, "dark"), (1280, "light"), (1920, "dark")):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 800})
        page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert serious_findings(page) == [], (width, scheme)
    page.locator("#next").click()
    shown(page, 1)
    page.keyboard.press("1")
    box(page, "22", (0, 0), (23, 1))
    wanted = draft()
    wanted[:2] = 1
    settled(page)
    page.keyboard.press("d")
    page.reload()  # the browser keeps it
    shown(page, 0)
    assert page.locator("#list button").nth(1).get_attribute("aria-label") == "Picture 2 of 3, 22, changed, done"
    with page.expect_download() as download:
        page.locator("#save-masks").click()
    download.value.save_as(tmp_path / "masks.zip")
    with zipfile.ZipFile(tmp_path / "masks.zip") as file:
        assert file.testzip() is None
        assert file.namelist() == ["masks/22.png"]
        file.extractall(tmp_path)
    assert torch.equal(read_mask(tmp_path / "masks" / "22.png"), wanted)
    assert {one: one.read_bytes() for one in todo.rglob("*.png")} == before
    # masks of another program: a zip that is packed, a single PNG of any name for the picture shown; and bad ones
    filled = torch.full((20, 24), 2, dtype=torch.uint8)
    with zipfile.ZipFile(tmp_path / "back.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("x/readme.txt", "x")
        file.writestr("x/22.png", png_bytes(filled))
        file.writestr("11.png", png_bytes(filled))
    page.locator("#file").set_input_files(tmp_path / "back.zip")
    page.wait_for_selector("#status >> text=2 masks loaded")
    for name, data, sentence in (
        ("b.png", png_bytes(filled + 1), "b.png holds the class 3; here are 0 to 2"),
        ("c.zip", b"PK\3\4" + bytes(40), "c.zip is not a zip"),
    ):
        page.locator("#file").set_input_files({"name": name, "mimeType": "", "buffer": data})
        page.wait_for_selector(f"#problem >> text={sentence}")
    with page.expect_download() as download:
        page.locator("#save-masks").click()
    with zipfile.ZipFile(download.value.path()) as file:
        assert file.namelist() == ["masks/11.png", "masks/22.png"]
        (tmp_path / "again.png").write_bytes(file.read("masks/11.png"))
    assert torch.equal(read_mask(tmp_path / "again.png"), filled)
    page.keyboard.press("z")
    assert page.locator("#status").text_content() == "undone"
    assert page.complaints == []
    assert page.asked == []
    page.close()
