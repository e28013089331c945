"""gsegkit paint --serve: the command, and a person who paints in a browser while another page tries to."""

import json
import stat
import threading
from pathlib import Path

import pytest
import torch

import gsegkit
from gsegkit.api import paint_server
from gsegkit.builtin.config import ToyConfig
from gsegkit.builtin.native import Native
from gsegkit.builtin.toy import Toy
from gsegkit.cli.browser import browsing
from gsegkit.config import Config
from gsegkit.context import RunContext
from gsegkit.errors import ConfigError
from gsegkit.images import read_mask, to_pixels
from gsegkit.painting import Style, latents_of
from gsegkit.painting.server import PaintServer
from gsegkit.parts import save_part
from gsegkit.reading import images as reading
from gsegkit.testing.browsing import chromium

SIZE = 20
QUICK = {"candidates": 2, "steps": 2}
ATTACK = """([address, token, size, mode]) => {
  const headers = mode === "cors" ? { "X-Gsegkit-Token": token, "Content-Type": "application/octet-stream" } : {};
  const asked = fetch(`${address}paint`, { method: "POST", mode, headers, body: new Uint8Array(size) });
  return asked.then((answer) => answer.type, () => "refused");
}"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """What a run leaves of its generator and extractor."""
    folder = tmp_path_factory.mktemp("served") / "cells"
    folder.mkdir()
    options = {"size": SIZE, "num_classes": 0}
    (folder / "config.json").write_text(json.dumps({"gen": {"name": "toy", "options": options}}))
    extractor = Native(Config())
    extractor.fit(Toy(ToyConfig(**options)), RunContext(folder))
    save_part(extractor, folder / "extractor", "extractor", "native")
    return folder


@pytest.fixture
def served(run):
    server = paint_server(run, options=QUICK, device="cpu")
    thread = threading.Thread(target=server.serve)
    thread.start()
    yield server
    server.shutdown()
    thread.join(30)


def test_the_command_serves_until_it_is_stopped(run, call, monkeypatch):
    def stop(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(PaintServer, "service_actions", stop)  # called between two requests
    options = [part for name, value in QUICK.items() for part in ("-o", f"painter.{name}={value}")]
    code, out, said = call("paint", run, "--serve", "--no-browser", *options)
    assert code == 0
    assert not out
    assert "painting page: http://127.0.0.1:" in said
    assert said.rstrip().endswith("the painting page is closed")
    left = sorted(path.name for path in run.iterdir())
    assert left == ["config.json", "extractor"], "a page that is served writes nothing"


def test_what_the_command_refuses(run, call, served):
    for arguments, sentence in (
        (["--serve", "--out", "page.html"], "--serve writes no file"),
        (["--port", 80], "for pages that are served"),
        (["-o", "painter.steps=2"], "for pages that are served"),
        ([], "does not run in a page"),
        (["--serve", "--port", 70_000], "equal to 65535"),
        (
            ["--serve", "--no-browser", "--port", served.port, "-o", "painter.steps=0"],
            f"cannot listen on port {served.port}",
        ),
        (["--serve", "-o", "painter.step=2"], "did you mean 'steps'"),
    ):
        code, _, said = call("paint", run, *arguments)
        assert (code, sentence in " ".join(said.split())) == (2, True), said


def test_names_of_classes_reach_the_page(run):
    names = gsegkit.name(run, ["rest#102030=0,3", "thing#405060=1,2"])
    with paint_server(run, classes=names, options=QUICK) as server:
        model = json.loads(server.model)
    assert model["classes"] == [{"name": "rest", "colour": "#102030"}, {"name": "thing", "colour": "#405060"}]
    assert (model["title"], model["size"], model["regionStyles"]) == ("cells", [SIZE, SIZE], False)
    assert len(model["examples"]) == 16
    with pytest.raises(ConfigError, match="candidates"):
        paint_server(run, options={"candidates": 0})


def test_the_browser_gets_a_file_and_no_key_on_its_command_line(monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("DISPLAY", ":1")
    with browsing("http://127.0.0.1:1/#secret"):
        path = Path(opened[0].removeprefix("file://"))
        assert "secret" not in opened[0]
        assert "url=http://127.0.0.1:1/#secret" in path.read_text()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not path.exists()
    monkeypatch.delenv("DISPLAY")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    for url in ("", "http://127.0.0.1:1/#secret"):
        with browsing(url):
            assert len(opened) == 1


@pytest.fixture
def browser(tmp_path):
    with chromium(tmp_path / "profile") as context:
        yield context


def test_a_person_paints_and_another_page_does_not(browser, served, run, tmp_path):
    page, asked, complaints = browser.new_page(), [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.goto(served.url)
    page.wait_for_selector("body[data-painted]")
    before = page.locator("body").get_attribute("data-painted")
    page.locator("#empty").click()
    page.wait_for_selector(f"body[data-painted]:not([data-painted='{before}']):not(.busy)")
    mask = read_mask(saved(page, "mask", tmp_path))
    assert not mask.any()
    picture = reading.read_photograph(saved(page, "picture", tmp_path)).pixels
    painter = gsegkit.open_painter(run, options=QUICK)
    expected = to_pixels(painter.paint(mask[None], latents_of(painter, Style(1))))[0]
    assert torch.equal(picture, expected)
    address = f"http://127.0.0.1:{served.port}/"
    assert {url.split("#")[0] for url in asked if not url.startswith(("data:", "blob:"))} == {
        address, f"{address}model", f"{address}paint",
    }  # fmt: skip
    assert not complaints
    page.reload()  # the key is still in the address
    page.wait_for_selector("body[data-painted]")
    # without the key, and from another page that even knows it
    page.goto("about:blank")
    page.goto(address)
    page.wait_for_selector("text=the address lacks its key")
    painted = []
    served.paint = lambda *given: painted.append(given)
    (tmp_path / "foreign.html").write_text("nothing")
    page.goto((tmp_path / "foreign.html").as_uri())
    given = [address, served.token, served.body_size]
    assert page.evaluate(ATTACK, [*given, "cors"]) == "refused"
    page.evaluate(ATTACK, [*given, "no-cors"])
    assert not painted


def saved(page, what, folder):
    with page.expect_download() as download:
        page.locator(f"#save-{what}").click()
    download.value.save_as(folder / f"{what}.png")
    return folder / f"{what}.png"
