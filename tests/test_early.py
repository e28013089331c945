"""Simple mistakes are told before torch is imported, which takes seconds."""

import json
import subprocess
import sys

import pytest

RUN = ("run", "--gen", "toy", "--extractor", "native", "--seg", "unet")
MISTAKES = [
    ("run", "--gen", "nosuch", "--extractor", "native", "--seg", "unet"),
    ("run", "--gen", "toy", "--extractor", "nosuch", "--seg", "unet"),
    ("run", "--gen", "toy", "--extractor", "native", "--seg", "nosuch"),
    (*RUN, "--refine", "nosuch"),
    (*RUN, "--eval", "nosuch"),
    (*RUN, "--data", "nosuch"),
    (*RUN, "--images", "nosuch"),
    (*RUN, "--photos", "nosuch"),
    (*RUN, "--config", "nosuch.yaml"),
    (*RUN, "--classes", "nosuch.yaml"),
    (*RUN, "-o", "seg.nosuch=1"),
    (*RUN, "-o", "gen.size=many"),
    (*RUN, "--device", "vulkan"),
    (*RUN, "--out", "a.file/below"),
    ("run", "--gen", "toy", "--extractor", "klish", "--seg", "unet", "--train-generator"),
    ("plan", "--gen", "nosuch", "--extractor", "native", "--seg", "unet"),
    ("plan", *RUN[1:], "--data", "nosuch"),
    ("check", "--gen", "nosuch", "--extractor", "native", "--seg", "unet"),
    ("check", *RUN[1:], "--data", "nosuch"),
    ("synthesize", "nosuch", "--out", "x"),
    ("synthesize", "a.file", "--out", "x", "--refine", "nosuch"),
    ("synthesize", "a.file", "--out", "x", "--worker", "4/4"),
    ("synthesize", "a.file", "--out", "x", "--device", "xpu"),
    ("train", "--data", "nosuch", "--out", "x"),
    ("train", "--data", "a.file", "--seg", "nosuch", "--out", "x"),
    ("train", "--data", "a.file", "--out", "x", "-o", "seg.nosuch=1"),
    ("train", "--data", "a.file", "--out", "x", "--classes", "nosuch.yaml"),
    ("train-generator", "nosuch", "--data", "a.file", "--out", "x"),
    ("train-generator", "toy", "--data", "a.file", "--out", "x"),
    ("train-generator", "stylegan2", "--data", "nosuch", "--out", "x"),
    ("evaluate", "nosuch", "--data", "a.file"),
    ("evaluate", "a.file", "--data", "nosuch"),
    ("evaluate", "a.file", "--data", "a.file", "--eval", "nosuch"),
    ("evaluate", "a.file", "--data", "a.file", "--refine", "nosuch"),
    ("evaluate-generator", "nosuch", "--data", "a.file"),
    ("evaluate-generator", "toy", "--data", "nosuch"),
    ("evaluate-generator", "toy", "--data", "a.file", "--eval", "nosuch"),
    ("predict", "nosuch", "a.file", "--out", "x"),
    ("predict", "a.file", "nosuch", "--out", "x"),
    ("predict", "a.file", "a.file", "--out", "x", "--refine", "nosuch"),
    ("predict", "a.file", "a.file", "--out", "x", "--format", "nosuch"),
    ("predict", "a.file", "a.file", "--out", "x", "--device", "mtia"),
    ("export", "nosuch", "--out", "x"),
    ("export", "a.file", "--out", "x", "--format", "nosuch"),
    ("export", "a.file", "--out", "x.pt2", "--format", "onnx"),
    ("export", "a.file", "--out", "x", "--dtype", "float64"),
    ("plan", "--gen", "toy", "--extractor", "native", "--seg", "unet", "--target", "nosuch"),
    ("report", "nosuch"),
    ("reproduce", "nosuch"),
    ("reproduce", "directions-1", "--rows", "nosuch"),
    ("reproduce", "directions-1", "--data", "nosuch"),
    ("reproduce", "directions-1", "--weights", "nosuch"),
    ("name", "nosuch"),
    ("match", "nosuch", "--data", "a.file"),
    ("match", "a.file", "--data", "nosuch"),
    ("import", "nosuch"),
    ("import", "a.file", "--reader", "nosuch"),
    ("show", "segmenter", "nosuch"),
]

# One process for all: the first command that imports torch spoils it for those after it, and is found.
PROGRAM = """
import contextlib, io, json, sys
from gsegkit.cli import main as cli
from gsegkit.cli.options import console
told = []
for arguments in json.load(sys.stdin):
    sys.argv = ["gsegkit", *arguments]
    console.file = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(console.file):
        try:
            cli.main()
            code = 0
        except SystemExit as leaving:
            code = leaving.code
        except BaseException as error:
            code = f"{type(error).__name__}: {error}"
    told.append((code, console.file.getvalue(), "torch" in sys.modules))
json.dump(told, sys.stdout)
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    folder = tmp_path_factory.mktemp("here")
    (folder / "a.file").write_text("not a run")
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, input=json.dumps(MISTAKES), cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in folder.iterdir()] == ["a.file"]
    return dict(zip(MISTAKES, json.loads(done.stdout), strict=True))


@pytest.mark.parametrize("mistake", MISTAKES, ids=" ".join)
def test_a_mistake_is_told_at_once(told, mistake):
    code, text, torch_was_imported = told[mistake]
    assert code == 2, (code, text)
    assert not torch_was_imported, text
    wrong = {"4/4", "--train-generator", "toy", "klish", "x.pt2", "float64", "a.file/below", "gen.size=many"}
    assert "Traceback" not in text
    assert any(sign in text for sign in ("nosuch", "device", *wrong)) or "cannot be trained" in text
