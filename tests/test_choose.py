"""gsegkit choose: candidates, the page, the choice, and the segmenter that learns from it; on drawn photographs."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shlex
import shutil
import subprocess
import threading
from importlib.resources import files

import pytest
import torch

from gsegkit import api
from gsegkit.choosing.candidates import Candidate
from gsegkit.choosing.choice import read_choice
from gsegkit.choosing.distil import training_size
from gsegkit.dataset import UnlabelledImages
from gsegkit.errors import ConfigError
from gsegkit.images import read_mask, write_png
from gsegkit.plugins import installed
from gsegkit.progress import Progress
from gsegkit.testing import Listener
from gsegkit.testing.browsing import chromium, serious_findings

for needed in ("gsegkit_baselines", "gsegkit_datasets", "gsegkit_smp"):
    pytest.importorskip(needed)

SCRIPT = files("gsegkit.choosing").joinpath("choose.js")
NODE = shutil.which("node")
METHODS = ("two-means", "colour-kmeans")
COUNT = 8


def disc(radius, at):
    rows, columns = torch.meshgrid(torch.arange(32), torch.arange(40), indexing="ij")
    return (rows - at[0]) ** 2 + (columns - at[1]) ** 2 <= radius**2


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Dark red discs with a blue core on light grey; one has a hostile name."""
    folder = tmp_path_factory.mktemp("drawn")
    noise = torch.Generator().manual_seed(3)
    for i in range(COUNT):
        outer, inner = disc(9 + i % 3, (14 + i % 4, 19)), disc(4, (14 + i % 4, 19))
        pixels = torch.where(outer, torch.tensor([150, 30, 40])[:, None, None], torch.tensor(205))
        pixels = torch.where(inner, torch.tensor([20, 20, 130])[:, None, None], pixels)
        pixels = (pixels + torch.randint(0, 12, pixels.shape, generator=noise)).to(torch.uint8)
        name = f"{i}" if i else "<script>alert(1)<"
        write_png(folder / "images" / f"{name}.png", pixels)
        write_png(folder / "masks" / f"{name}.png", outer.to(torch.uint8) + inner.to(torch.uint8))
    return folder


@pytest.fixture(scope="module")
def session():
    return api.Session(installed(), Progress(), threading.Event())


@pytest.fixture(scope="module")
def chosen(photographs, session, tmp_path_factory):
    out = tmp_path_factory.mktemp("out with a space") / "choose"
    page = api.choose(photographs / "images", out, methods=METHODS, device="cpu", session=session)
    return out, page.read_text()


@pytest.fixture(scope="module")
def data(chosen):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', chosen[1], re.S)[1])


def test_the_page_needs_nothing_and_hides_nothing(chosen, data):
    text = chosen[1]
    script = SCRIPT.read_text()
    assert f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" in text
    assert not re.findall(r"https?://", text)
    assert "<script>alert" not in text
    assert "Left out" not in text
    assert len(data["photographs"]) == COUNT
    assert any("alert" in one["name"] for one in data["photographs"]), "as data"
    assert data["command"].startswith("gsegkit choose ")
    assert shlex.split(data["command"])[-2:] == ["--methods", ",".join(METHODS)]
    seen = {(one["id"].split("/")[0], one["view"]) for one in data["candidates"]}
    assert seen >= {("two-means", "foreground"), ("colour-kmeans", "parts"), ("colour-kmeans", "foreground")}
    for one in data["candidates"]:
        assert len(one["masks"]) == COUNT
        assert len(one["classes"]) == len(one["colours"]) == len(one["shares"])
        assert sum(one["shares"]) == pytest.approx(1, abs=1e-3)
        assert one["colours"][0] == "transparent"


@pytest.mark.skipif(NODE is None, reason="needs node")
def test_the_choice_in_the_script():
    check = """
    const { ranking, namesOf, choiceText } = require(process.argv[1]);
    const data = { format: 1, comparison: "c", candidates: [
      { id: "a", classes: ["background", "foreground"] }, { id: "b", classes: ["background", "part 1", "part 2"] }] };
    const state = { votes: { 0: 1, 1: 0, 2: 1 }, names: { 1: ["background", " red   cell ", ""] } };
    console.log(JSON.stringify([ranking(state.votes), namesOf(state, data, 1), JSON.parse(choiceText(state, data)),
      choiceText({ votes: {}, names: {} }, data), choiceText({ votes: { 0: 0 }, names: { 0: ["x", "x"] } }, data),
      ranking({ 0: 1, 1: 0 })]));
    """
    done = subprocess.run([NODE, "-e", check, str(SCRIPT)], capture_output=True, text=True, check=True)
    ranked, names, choice, nothing, one_name, tie = json.loads(done.stdout)
    assert (ranked, tie) == ([[1, 2], [0, 1]], [[0, 1], [1, 1]])
    assert names == choice["names"] == ["background", "red cell", "part 2"]
    assert choice == {"format": 1, "comparison": "c", "candidate": "b", "names": names}
    assert nothing == one_name == ""


def candidate(classes=("background", "part 1", "part 2")):
    return Candidate("m", "alone", "parts", tuple(range(len(classes))), classes, "none", None)


GOOD = {"format": 1, "comparison": "c", "candidate": "m/alone/parts", "names": ["ground", "cell", "cell"]}


def test_a_choice_is_read(tmp_path):
    (tmp_path / "choice.json").write_text(json.dumps(GOOD))
    assert read_choice(tmp_path / "choice.json", [candidate()], "c")[1] == ("ground", "cell", "cell")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read|not valid|damaged"),
        ("[]", "not the record"),
        (json.dumps({**GOOD, "format": 2}), "format 2"),
        (json.dumps({**GOOD, "comparison": "d"}), "other photographs"),
        (json.dumps({**GOOD, "candidate": "../../etc"}), "not in this comparison"),
        (json.dumps({**GOOD, "names": ["a", "b"]}), "2 names for 3 classes"),
        (json.dumps({**GOOD, "names": ["a", "b", "c\u0007"]}), "a name that is none"),
        (json.dumps({**GOOD, "names": ["a", "b", 3]}), "not the record"),
        (json.dumps({**GOOD, "names": ["a", "a", "a"]}), "every class 'a'"),
    ],
)
def test_a_bad_choice_is_refused(tmp_path, text, message):
    (tmp_path / "choice.json").write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        read_choice(tmp_path / "choice.json", [candidate()], "c")
    assert caught.value.hint


def test_a_segmenter_learns_from_the_choice(chosen, data, photographs, session, tmp_path):
    out, _ = chosen
    one = next(c for c in data["candidates"] if c["id"].startswith("colour-kmeans/") and c["view"] == "parts")
    pixels = torch.stack([read_mask(path) for path in sorted((photographs / "masks").glob("*.png"))])
    assert pixels.max() == 2
    names = ["ground" if share > 0.5 or i == 0 else "cell" for i, share in enumerate(one["shares"])]
    choice = {"format": 1, "comparison": data["comparison"], "candidate": one["id"], "names": names}
    (tmp_path / "choice.json").write_text(json.dumps(choice))
    given = {"side": 40, "options": {"steps": 60, "batch_size": 4, "val_every": 30}, "methods": METHODS,
             "device": "cpu", "session": session}  # fmt: skip
    folder = api.train_choice(photographs / "images", out, tmp_path / "choice.json", **given)
    assert api.load(folder, session=session).classes == ("ground", "cell")
    before = (folder / "checkpoint.safetensors").stat().st_mtime_ns
    assert api.train_choice(photographs / "images", out, tmp_path / "choice.json", **given) == folder
    assert (folder / "checkpoint.safetensors").stat().st_mtime_ns == before, "nothing is trained again"
    found = api.evaluate(folder, photographs, refine=(), options={"match": "index"}, session=session)
    assert found.metrics["iou_foreground"] > 0.8
    other = {**choice, "names": ["ground", *["cell"] * (len(names) - 1)]}
    (out / "choice.json").write_text(json.dumps(other))
    if other != choice:
        assert api.train_choice(photographs / "images", out, **given) != folder, "another choice, another folder"


def test_what_cannot_be_chosen(chosen, photographs, session, tmp_path, call):
    out, _ = chosen
    with pytest.raises(ConfigError, match="16 to 2,048"):
        api.train_choice(photographs / "images", out, side=4, session=session)
    (tmp_path / "index.html").write_text("mine")
    with pytest.raises(ConfigError, match="did not write it"):
        api.choose(photographs / "images", tmp_path, methods=METHODS, session=session)
    for args, message in (
        (("choose", tmp_path / "no", "--out", out), "does not exist"),
        (("choose", photographs, "--out", out, "--choice", tmp_path / "no.json"), "gsegkit choose makes"),
        (("choose", photographs, "--out", out, "-o", "seg.steps=3"), "choose first"),
        (("choose", photographs, "--out", out, "--methods", "unet"), "learns from pairs"),
    ):
        code, _, err = call(*args, "-q")
        assert (code, message in " ".join(err.split())) == (2, True), (args, err)


def test_what_is_left_out_is_said(photographs, tmp_path):
    talk = Listener()
    session = api.Session(installed(), talk, threading.Event())
    page = api.choose(
        photographs / "images", tmp_path / "o", methods=("otsu", "few-labels"), device="cpu", session=session
    )
    assert "few-labels: it learns from labels" in page.read_text()
    assert any(line.startswith("left out: few-labels") for line in talk.infos)


def test_the_size_that_it_learns_at(tmp_path):
    for i, size in enumerate(((30, 60), (40, 80), (90, 10))):
        write_png(tmp_path / f"{i}.png", torch.zeros(3, *size, dtype=torch.uint8))
    images = UnlabelledImages(tuple(sorted(tmp_path.iterdir())))
    assert training_size(images, 128) == (64, 128)


@pytest.mark.parametrize("width", [360, 1280])
def test_a_person_chooses_in_a_browser(chosen, data, tmp_path, width):
    with chromium(tmp_path / "profile") as browser:
        page, complaints = browser.new_page(), []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("request", lambda request: complaints.append(request.url) if request.url.startswith("http") else None)
        page.set_viewport_size({"width": width, "height": 800})
        page.goto((chosen[0] / "index.html").as_uri())
        assert page.locator("#save").is_disabled()
        page.locator("tbody tr").nth(0).locator(".pick").nth(1).click()
        page.locator("thead .all").nth(1).focus()
        page.keyboard.press("Enter")
        assert page.locator('.pick[aria-pressed="true"]').count() == COUNT
        page.locator("tbody tr").nth(0).locator(".pick").nth(0).click()
        assert f"{COUNT - 1} of {COUNT} photographs" in page.locator("#status").text_content()
        page.locator("#parts input").nth(1).fill("red cell")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert serious_findings(page) == []
        with page.expect_download() as download:
            page.locator("#save").click()
        download.value.save_as(tmp_path / "choice.json")
    assert complaints == []
    saved = json.loads((tmp_path / "choice.json").read_text())
    assert saved["candidate"] == data["candidates"][1]["id"]
    assert saved["names"][1] == "red cell"
