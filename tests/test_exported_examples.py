"""The examples of docs/how-to/use-an-exported-segmenter.md, run as they stand there."""

import functools
import http.server
import json
import queue
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from gsegkit.config import Config
from gsegkit.exports.networks import export_model
from gsegkit.images import read_image
from gsegkit.interfaces import Segmenter

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/how-to/use-an-exported-segmenter.md"
ORT_WEB = ROOT / "node_modules/onnxruntime-web/dist"  # npm install --no-save onnxruntime-web; not on Python's index
ORT_FILES = ("ort.wasm.min.js", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class ByColour(Segmenter):
    """Classes by what a small random network sees."""

    fit_rule = "squash"
    classes = ("background", "cell", "nucleus")
    train_size = (24, 32)

    def __init__(self):
        super().__init__(Config())
        torch.manual_seed(1)
        self.net = nn.Sequential(nn.Conv2d(3, 8, 5, padding=2), nn.ReLU(), nn.Conv2d(8, 3, 3, padding=1))

    def fit(self, dataset, ctx, *, val=None):
        raise AssertionError("not used")

    def logits(self, images):
        return 5 * self.net(images)


def example(language):
    (code,) = re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.S)
    return code


@pytest.fixture
def folder(tmp_path):
    """What the examples ask for: the exported segmenter and a photograph, which is not square."""
    export_model(ByColour(), tmp_path / "segmenter.onnx")
    y, x = np.mgrid[0:70, 0:110]
    waves = [np.sin(x / 9 + y / 13), np.cos(x / 17 - y / 8), np.sin(x * y / 900)]
    Image.fromarray((np.stack(waves, axis=2) * 120 + 128).astype(np.uint8)).save(tmp_path / "photo.png")
    return tmp_path


def expected(folder):
    mask = ByColour().predict(read_image(folder / "photo.png")[None])[0]
    assert len(mask.unique()) == 3  # else the examples would prove nothing
    return mask.numpy()


def test_the_python_example(folder):
    done = subprocess.run([sys.executable, "-c", example("python")], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with Image.open(folder / "mask.png") as mask:
        found, palette = np.array(mask), mask.getpalette()
    assert (found == expected(folder)).mean() >= 0.999
    for name, share in (("background", 0), ("cell", 1), ("nucleus", 2)):
        assert f"'{name}': {(found == share).mean()}" in done.stdout
    card = json.loads((folder / "segmenter.onnx.json").read_text(encoding="utf-8"))
    assert bytes(palette[:9]).hex() == "".join(card["palette"]).replace("#", "")


class Server(http.server.SimpleHTTPRequestHandler):
    """Serves a folder; what the page posts goes to `posted`."""

    posted: "queue.Queue[tuple[str, bytes]]" = queue.Queue()

    def do_POST(self):
        self.posted.put((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *args):
        pass


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.skipif(not ORT_WEB.is_dir(), reason="needs onnxruntime-web: npm install --no-save onnxruntime-web")
def test_the_browser_example(folder, tmp_path_factory):
    for name in ORT_FILES:
        shutil.copy(ORT_WEB / name, folder)
    report = """
  await fetch("/labels", { method: "POST", body: labels.data });
  await fetch("/canvas", { method: "POST", body: pen.getImageData(0, 0, width, height).data });
</script>"""
    watch = """<script>
  const tell = (text) => fetch("/error", { method: "POST", body: String(text) });
  addEventListener("error", (event) => tell(event.message));
  addEventListener("unhandledrejection", (event) => tell(event.reason));
</script>"""
    page = example("html").replace("<canvas>", f"{watch}<canvas>")
    (folder / "index.html").write_text(report.join(page.rsplit("</script>", 1)), encoding="utf-8")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Server, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/index.html"
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-proxy-server", "--remote-debugging-port=0"]
        profile = f"--user-data-dir={tmp_path_factory.mktemp('profile')}"
        browser = subprocess.Popen([CHROMIUM, *flags, profile, address], stderr=subprocess.DEVNULL)
        try:
            posted = [Server.posted.get(timeout=240)]
            if posted[0][0] != "/error":
                posted.append(Server.posted.get(timeout=60))
        finally:
            browser.terminate()
            browser.wait(30)
            server.shutdown()
    assert [path for path, _ in posted] == ["/labels", "/canvas"], posted[0][1]
    labels = np.frombuffer(posted[0][1], dtype=np.uint8).reshape(70, 110)
    assert (labels == expected(folder)).mean() >= 0.999
    card = json.loads((folder / "segmenter.onnx.json").read_text(encoding="utf-8"))
    colours = np.array([list(bytes.fromhex(colour[1:])) for colour in card["palette"]])
    drawn = np.frombuffer(posted[1][1], dtype=np.uint8).reshape(70, 110, 4)
    assert (drawn[..., :3] == colours[labels]).all()
