"""The command line as a user meets it: one sentence, a remedy, exit code 2, and nothing lost."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gsegkit.cli.terminal import make_console, make_table, show_error, show_message
from gsegkit.images import write_png
from gsegkit.progress import duration

pytest.importorskip("gsegkit_smp")
pytest.importorskip("gsegkit_eval")
pytest.importorskip("gsegkit_datasets")

TOY = ["--gen", "toy", "--extractor", "native", "--seg", "unet", "-o", "gen.size=32", "--device", "cpu"]
TINY = [*TOY, "--samples", "48", "-o", "seg.steps=6", "-o", "seg.batch_size=8"]
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A small finished run."""
    out = tmp_path_factory.mktemp("cli") / "run"
    command = [sys.executable, "-m", "gsegkit", "run", *TINY, "--out", out, "-q"]
    subprocess.run(command, check=True, env=ONE_THREAD)
    return out


@pytest.fixture
def annotated(tmp_path):
    folder = tmp_path / "annotated"
    for i in range(3):
        write_png(folder / "images" / f"{i}.png", torch.randint(0, 255, (3, 40, 30), dtype=torch.uint8))
        write_png(folder / "masks" / f"{i}.png", torch.randint(0, 2, (40, 30), dtype=torch.uint8))
    return folder


def test_list_show_and_doctor(call):
    code, _, err = call("list")
    assert code == 0
    assert "toy" in err
    code, out, _ = call("list", "--json", "--all")
    listing = json.loads(out)
    assert {"toy", "native", "unet", "deeplabv3", "masks"} <= {c["name"] for c in listing["components"]}
    assert listing["broken"] == []
    code, out, _ = call("show", "segmenter", "unet", "--json")
    shown = json.loads(out)
    assert "steps" in {option["name"] for option in shown["options"]}
    code, _, err = call("show", "seg", "unet")
    assert "default" in err
    assert "licence" in err
    assert call("show", "unet", "--json") == call("show", "segmenter", "unet", "--json"), "the kind may be left out"
    code, _, err = call("show", "stylegan2")
    assert "generator of gsegkit-stylegan" in err
    assert "also: gsegkit show checkpoint-reader stylegan2" in err
    code, _, err = call("show", "unett")
    assert (code, "did you mean 'unet'?" in err) == (2, True)
    code, out, _ = call("doctor", "--json")
    assert json.loads(out)["torch"]
    assert call("doctor")[0] == 0


def test_every_component_can_be_shown(call):
    for component in json.loads(call("list", "--json")[1])["components"]:
        name = f"{component['name']}@{component['dist']}"
        assert call("show", component["kind"], name)[0] == 0, name


BAD = {
    "an unknown generator": (["run", "--gen", "toi", *TOY[2:]], "no generator 'toi' is installed", "did you mean 'toy'"),
    "an unknown first-party part": (
        ["run", *TOY, "--extractor", "datasetgan"], "no extractor 'datasetgan' is installed", "installed:",
    ),
    "a typo in an option": (["run", *TOY, "-o", "seg.stpes=3"], "did you mean 'steps'", "gsegkit show"),
    "a value out of range": (["run", *TOY, "-o", "seg.steps=0"], "seg.steps: input should be greater", "gsegkit show"),
    "a value of another type": (["run", *TOY, "-o", "seg.steps=many"], "seg.steps: input should be a valid integer", ""),
    "a malformed option": (["run", *TOY, "-o", "steps"], "does not have the form part.option=value", "for example"),
    "a missing part": (["run", "--gen", "toy"], "run.extractor: must be given", ""),
    "a missing folder": (["run", *TOY, "--data", "absent"], "folder 'absent' does not exist", "check the path"),
    "a missing config": (["run", "--config", "absent.toml"], "cannot read 'absent.toml'", "check the path"),
    "a device that is not here": (["run", *TOY, "--device", "cuda:77"], "device 'cuda:77' is not available", "--device cpu"),
    "a device that is none": (["run", *TOY, "--device", "abacus"], "'abacus' is not a device", "use auto"),
    "a run that is none": (["predict", "absent", "x.png", "--out", "o"], "'absent' does not exist", "gsegkit run"),
    "an unknown kind": (["list", "painters"], "no component kind 'painters'", "kinds:"),
    "a worker that is none": (["synthesize", ".", "--out", "y", "--worker", "3/2"], "--worker '3/2'", "for example"),
    "an option of another part": (["train", "--data", "x", "--out", "y", "-o", "gen.a=1"], "does not belong here", "seg."),
    "a generator that is none": (["evaluate-generator", "absent", "--data", "."], "no generator 'absent'", "installed"),
    "a comparison that is none": (
        ["evaluate-generator", "toy", "--data", ".", "--eval", "masks"], "no generator-evaluator 'masks'", "installed",
    ),
    "a folder without photographs": (["evaluate-generator", "toy", "--data", "."], "no image", ""),
    "a generator that cannot learn": (["train-generator", "toy", "--data", "x", "--out", "y"], "cannot be trained", ""),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_gets_one_sentence_a_remedy_and_exit_code_2(call, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    args, message, hint = BAD[name]
    code, out, err = call(*args)
    text = " ".join(err.split())
    assert code == 2
    assert message in text
    assert hint in text
    assert "Traceback" not in err
    assert out == ""
    assert not list(tmp_path.rglob("*.safetensors")), "nothing was computed"


def bad_images(folder):
    good = folder / "images" / "0.png"
    data = good.read_bytes()
    return {
        "zero bytes": (good, b"", "is empty"),
        "truncated": (good, data[: len(data) // 2], "is damaged"),
        "corrupt": (good, data[:60] + b"\0" * 40 + data[100:], "is damaged"),
        "a text": (good, b"not an image", "cannot read image"),
    }


@pytest.mark.parametrize("name", ["zero bytes", "truncated", "corrupt", "a text"])
def test_a_bad_image_in_the_test_folder_is_named_before_anything_runs_or_at_the_score(
    call, name, annotated, finished, tmp_path
):
    path, data, message = bad_images(annotated)[name]
    path.write_bytes(data)
    code, _, err = call("evaluate", finished, "--data", annotated, "--device", "cpu", "-q")
    assert code == 2
    assert message in " ".join(err.split())
    assert "0.png" in err.replace("\n", "")


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.zeros(9, 9, dtype=torch.uint8), "size|9 x 9|9, 9"),
        (torch.full((40, 30), 77, dtype=torch.uint8), "77|class"),
    ],
)
def test_a_mask_that_does_not_fit(call, mask, message, annotated, finished):
    import re

    (annotated / "classes.txt").write_text("background\nthing\n")
    write_png(annotated / "masks" / "1.png", mask)
    code, _, err = call("evaluate", finished, "--data", annotated, "--device", "cpu", "-q")
    assert code == 2
    assert re.search(message, err)
    assert "1.png" in err.replace("\n", "")


def test_all_bad_test_images_are_told_before_a_run_computes_anything(call, annotated, tmp_path):
    from PIL import Image

    for name in ("0", "2"):
        (annotated / "images" / f"{name}.png").unlink()
        Image.effect_noise((30, 40), 90).convert("RGB").save(annotated / "images" / f"{name}.jpg", quality=95)
        path = annotated / "images" / f"{name}.jpg"
        path.write_bytes(path.read_bytes()[:-600])
    code, _, err = call("run", *TINY, "--data", annotated, "--out", tmp_path / "run", "-q")
    assert code == 2
    text = err.replace("\n", "")
    assert "2 of 3 test pairs cannot be used" in text
    assert "0.jpg" in text
    assert "2.jpg" in text
    assert not (tmp_path / "run" / "dataset").exists()


def test_ctrl_c_saves_and_the_same_command_goes_on(tmp_path):
    import signal
    import time

    command = [sys.executable, "-m", "gsegkit", "run", *TINY, "-o", "seg.val_every=500", "--out", tmp_path / "run"]
    command[command.index("seg.steps=6")] = "seg.steps=500"
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=ONE_THREAD)
    for _ in range(1200):
        if (tmp_path / "run" / "segmenter" / "metrics.jsonl").exists():
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "run the same command again" in " ".join(err.split())
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "interrupted"
    from gsegkit.tensors import load_tree

    done = load_tree(tmp_path / "run" / "segmenter" / "checkpoint.safetensors")["done"]
    assert 0 < done < 500
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=ONE_THREAD)
    for line in process.stderr:
        if "resumed after step" in line:
            break
    else:
        pytest.fail("the second run did not resume")
    process.kill()
    process.communicate()


def test_an_empty_test_folder(call, finished, tmp_path):
    (tmp_path / "empty").mkdir()
    code, _, err = call("evaluate", finished, "--data", tmp_path / "empty", "-q")
    assert code == 2
    assert "contains no image" in " ".join(err.split())


def test_run_again_resumes_and_gives_the_same_numbers(call, finished):
    before = json.loads((finished / "report/metrics.json").read_text())
    code, out, _ = call("run", *TINY, "--out", finished, "--json", "-q")
    assert code == 0
    assert json.loads(out)["metrics"]["iou_foreground"] == before["iou_foreground"]
    code, _, err = call("run", "--config", finished / "config.json", "--out", finished, "-q")
    assert code == 0
    assert "iou_foreground" in err


def test_an_existing_run_with_other_options_is_kept(call, finished):
    before = (finished / "config.json").read_bytes()
    code, _, err = call("run", *TINY, "--out", finished, "--seed", "5", "-q")
    assert code == 2
    assert "seed: 0 -> 5" in " ".join(err.split())
    assert (finished / "config.json").read_bytes() == before
    assert (finished / "segmenter" / "state.safetensors").exists()


def test_evaluate_gives_the_keys_of_the_report(call, finished, annotated):
    code, out, _ = call("evaluate", finished, "--data", annotated, "--device", "cpu", "--json", "-q")
    assert code == 0
    numbers = json.loads(out)
    assert {"iou_foreground", "accuracy", "miou", "f_beta", "max_f_beta", "per_class", "notes"} <= numbers.keys()
    for match, said in (("greedy", "greedily"), ("hungarian", "Hungarian")):
        code, out, _ = call("evaluate", finished, "--data", annotated, "--match", match, "--json", "-q")
        assert code == 0
        assert any(said in note and "labels" in note for note in json.loads(out)["notes"])
    code, _, err = call("evaluate", finished, "--data", annotated, "--match", "absent.yaml", "-q")
    assert code == 2
    assert "absent.yaml" in err.replace("\n", "")


def test_evaluate_generator_by_name_and_of_a_run(call, finished, tmp_path):
    """The same toy by its name and out of a run; the run's options are its own, and nothing is written."""
    for i in range(8):
        write_png(tmp_path / "photos" / f"{i}.png", torch.randint(0, 255, (3, 40, 30), dtype=torch.uint8))
    common = ("--data", tmp_path / "photos", "--device", "cpu", "-q", "-o", "eval.num_samples=12")
    common += ("-o", "eval.backbone=resnet18")  # its metrics have the same names with and without the pretrained one
    before = sorted(finished.rglob("*"))
    code, out, _ = call("evaluate-generator", finished, *common, "--json")
    assert code == 0
    of_run = json.loads(out)
    assert of_run["distance_background"] > 0
    assert of_run["num_images"] == 8
    options = ("-o", "gen.size=32")
    code, out, _ = call("evaluate-generator", "toy", *options, *common, "--json")
    assert code == 0
    assert json.loads(out) == of_run
    code, _, err = call("evaluate-generator", "toy", *options, *common)
    assert code == 0
    assert "distance_background" in err
    code, _, err = call("evaluate-generator", finished, *options, *common)
    assert code == 2
    assert "has its own options" in " ".join(err.split())
    assert sorted(finished.rglob("*")) == before


def test_predict_writes_masks_and_keeps_the_good_ones(call, finished, annotated, tmp_path):
    code, _, _ = call("predict", finished, annotated / "images", "--out", tmp_path / "p", "--device", "cpu", "-q")
    assert code == 0
    assert len(list((tmp_path / "p").rglob("*.png"))) >= 6
    (annotated / "images" / "1.png").write_bytes(b"")
    code, _, err = call("predict", finished, annotated / "images", "--out", tmp_path / "q", "--device", "cpu", "-q")
    assert code == 2
    assert "1.png" in err.replace("\n", "")
    assert len(list((tmp_path / "q").rglob("*.png"))) >= 4


def test_check_and_plan(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = call("check", *TOY)
    assert code == 0
    assert "no problem found" in err
    code, out, _ = call("check", *TOY[2:], "--gen", "toi", "--data", "absent", "-o", "seg.stpes=1", "--json")
    assert code == 2
    assert {problem["where"] for problem in json.loads(out)} == {"gen", "seg", "data"}
    code, out, _ = call("plan", *TINY, "--json")
    assert code == 0
    found = json.loads(out)
    assert found["total_seconds"] > 0
    assert found["disk_bytes"] > 48 * 32 * 32 * 4, "the pairs, and what else stays"
    assert set(found["seconds"]) == {"extractor", "dataset", "segmenter", "report"}
    assert not (tmp_path / "runs").exists()


def test_report_train_and_synthesize(call, finished, tmp_path):
    (finished / "report" / "index.html").unlink()
    assert call("report", finished)[0] == 0
    assert (finished / "report" / "index.html").exists()
    assert call("synthesize", finished, "--out", tmp_path / "s", "--samples", "20", "--device", "cpu", "-q")[0] == 0
    code, _, _ = call("train", "--data", tmp_path / "s", "--seg", "unet", "--out", tmp_path / "t", "--device", "cpu",
                      "-o", "seg.steps=2", "-o", "seg.batch_size=4", "-q")  # fmt: skip
    assert code == 0
    assert (tmp_path / "t" / "component.json").exists()


def test_version_module_and_completion():
    done = subprocess.run([sys.executable, "-m", "gsegkit", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("gsegkit ")
    script = Path(sys.executable).with_name("gsegkit")

    def complete(words: str) -> list[str]:
        count = str(len(words.split(" ")) - 1)
        env = {**os.environ, "_GSEGKIT_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": count}
        return subprocess.run([script], capture_output=True, text=True, env=env).stdout.split()

    assert complete("gsegkit ev") == ["evaluate", "evaluate-generator", "evaluate-pairs", "evaluate-painter"]
    assert complete("gsegkit run --seg deep") == ["deeplabv3", "deeplabv3plus"]


def test_a_plugin_that_raises_at_import_breaks_nothing(tmp_path):
    """A real broken distribution on the path: list names it, an unrelated command works."""
    info = tmp_path / "broken_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[gsegkit]\nbroken = broken_plugin\n")
    (tmp_path / "broken_plugin.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')\n")
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}

    def gsegkit(*args):
        command = [sys.executable, "-m", "gsegkit", *args]
        return subprocess.run(command, capture_output=True, text=True, env=env)

    listed = gsegkit("list", "--json")
    assert listed.returncode == 0
    assert json.loads(listed.stdout)["broken"] == [
        {
            "dist": "broken-plugin",
            "entry_point": "broken",
            "reason": "RuntimeError: operator torchvision::nms does not exist",
        }
    ]
    assert gsegkit("show", "gen", "toy").returncode == 0
    doctor = gsegkit("doctor")
    assert "Traceback" in doctor.stderr
    assert "torchvision::nms" in doctor.stderr
    assert gsegkit("list").returncode == 0


def test_the_console_prints_text_as_it_is_and_wraps_no_log(capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    console = make_console()
    show_error(console, "image 'set[/b].png' is damaged :smile:", "look at runs/[exp]2")
    show_message(console, "[red]" + "long " * 60, "warning")
    table = make_table("a[b]", "[/b]")
    table.add_row("[bold]cell")
    console.print(table)
    shown = capsys.readouterr().err.splitlines()
    assert shown[0] == "error: image 'set[/b].png' is damaged :smile:"
    assert shown[1] == "try: look at runs/[exp]2"
    assert shown[2].startswith("warning: [red]long")
    assert shown[2].count("long") == 60
    assert [line.strip() for line in shown[3:]] == ["a[b]", "[/b]", "[bold]cell"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(5, "5.0 s"), (75, "1 min 15 s"), (7260, "2 h 1 min"), (float("inf"), "—")]
)
def test_durations_in_words(seconds, text):
    assert duration(seconds) == text
