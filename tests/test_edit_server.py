"""The editor's server: it reads and writes the masks of its folder for its own page, and refuses everything else."""

import http.client
import json
import shutil
import threading

import pytest
import torch

import gsegkit
from gsegkit.errors import ConfigError, RunLockedError
from gsegkit.images import read_image, read_mask, write_png

SIZES = {"a": (6, 8), "b": (5, 9)}
UNKNOWN = 255


@pytest.fixture
def todo(tmp_path):
    folder = tmp_path / "todo"
    for value, (name, size) in enumerate(SIZES.items()):
        write_png(folder / "images" / f"{name}.png", torch.full((3, *size), 90 * value, dtype=torch.uint8))
    write_png(folder / "masks" / "a.png", torch.ones(SIZES["a"], dtype=torch.uint8))
    (folder / "classes.yaml").write_text("- ground\n- leaf\n")
    return folder


@pytest.fixture
def ask(todo):
    """(method, path, body, **headers) -> (status, bytes, headers); a header of None is left out."""
    with gsegkit.paint_server(todo) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        host = f"127.0.0.1:{server.port}"

        def ask(method, path, body=None, **changed):
            given = {"Host": host, "Origin": f"http://{host}", "X-Gsegkit-Token": server.token,
                     "X-Gsegkit-Picture": "0", "Content-Type": "application/octet-stream"}  # fmt: skip
            given.update({name.replace("_", "-"): value for name, value in changed.items()})
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            if body is not None and "Content-Length" not in given:
                given["Content-Length"] = len(body)
            for name, value in given.items():
                if value is not None:
                    connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            found = answer.status, answer.read(), answer.headers
            connection.close()
            return found

        yield ask
        server.shutdown()
        thread.join(20)


def content(folder):
    return {path.name: path.read_bytes() for path in folder.rglob("*.*") if path.is_file() and path.name != ".lock"}


def painted(name="a", value=0):
    mask = torch.full(SIZES[name], value, dtype=torch.uint8)
    mask[0] = UNKNOWN
    return mask


def test_masks_are_read_and_saved(ask, todo, tmp_path):
    status, model, _ = ask("GET", "/model", Origin=None)
    model = json.loads(model)
    assert status == 200
    assert [(one["name"], one["size"], one["changed"], one["done"]) for one in model["pictures"]] == [
        ("a", [8, 6], False, False), ("b", [9, 5], False, False),
    ]  # fmt: skip
    assert [one["name"] for one in model["classes"]] == ["ground", "leaf"]
    _, picture, headers = ask("GET", "/picture", X_Gsegkit_Picture="1", Origin=None)
    (tmp_path / "seen.png").write_bytes(picture)
    assert torch.equal(read_image(tmp_path / "seen.png"), read_image(todo / "images" / "b.png"))
    assert headers["Content-Type"] == "image/png"
    _, both, headers = ask("GET", "/masks", Origin=None)
    assert both == b"\1" * 96
    mask = painted()
    before = (todo / "masks" / "a.png").read_bytes()
    status, _, saved = ask("POST", "/mask", mask.numpy().tobytes(), If_Match=headers["ETag"])
    assert status == 200
    assert torch.equal(read_mask(todo / "masks" / "a.png"), mask)
    assert (todo / "drafts" / "a.png").read_bytes() == before
    status, said, _ = ask("POST", "/mask", mask.numpy().tobytes(), If_Match=headers["ETag"])
    assert (status, b"changed by another page" in said) == (412, True)
    assert ask("POST", "/mask", bytes(48), If_Match=saved["ETag"])[0] == 200
    assert ask("POST", "/done", b"\1", X_Gsegkit_Picture="1")[0] == 200
    rows = json.loads(ask("GET", "/model")[1])["pictures"]
    assert [(one["changed"], one["done"]) for one in rows] == [(True, False), (False, True)]
    assert ask("POST", "/done", b"\0", X_Gsegkit_Picture="1")[0] == 200
    assert json.loads((todo / "annotate.json").read_text())["done"] == []
    assert ask("GET", "/masks")[1] == bytes(48) + b"\1" * 48


def test_a_folder_has_one_editor(todo):
    with gsegkit.paint_server(todo) as server:
        with pytest.raises(RunLockedError):
            gsegkit.paint_server(todo)
        shutil.copytree(todo, todo.parent / "other", ignore=shutil.ignore_patterns(".lock"))
        with pytest.raises(ConfigError, match="cannot listen on port"):
            gsegkit.paint_server(todo.parent / "other", port=server.port)
    for folder in (todo, todo.parent / "other"):
        gsegkit.paint_server(folder).server_close()


def test_nothing_is_written_for_others(ask, todo):
    before = content(todo)
    mask, match = painted().numpy().tobytes(), ask("GET", "/masks")[2]["ETag"]
    cases = [
        (403, {"Host": "evil.example"}), (403, {"Host": "localhost"}), (403, {"Origin": None}), (403, {"Origin": "null"}),
        (403, {"Origin": "http://evil.example"}), (403, {"X_Gsegkit_Token": None}), (403, {"X_Gsegkit_Token": "0" * 64}),
        (415, {"Content_Type": "text/plain"}), (415, {"Content_Type": None}),
        (412, {"If_Match": None}), (412, {"If_Match": "*"}), (412, {"If_Match": f"{match}, {match}"}),
        *((400, {"X_Gsegkit_Picture": given}) for given in (None, "", "2", "-1", "+0", "0x0", "1e0", "a", "../a", "9" * 40, "\u0661")),
    ]  # fmt: skip
    for status, changed in cases:
        if changed.get("X_Gsegkit_Picture") == "\u0661":
            changed = {"X_Gsegkit_Picture": "\u0661".encode()}
        assert ask("POST", "/mask", mask, **{"If_Match": match, **changed})[0] == status, changed
    for sent, status in (
        (mask[:-1], 400),
        (mask + b"\0", 413),
        (b"", 400),
        (b"x" * 400_000, 413),
        (bytes([2]) * 48, 400),
        (bytes([254]) * 48, 400),
    ):
        assert ask("POST", "/mask", sent, If_Match=match)[0] == status, len(sent)
    assert ask("POST", "/mask", mask, If_Match=match, X_Gsegkit_Picture="1")[0] == 413, "the size of another picture"
    for sent in (b"\2", b"", b"\1\1"):
        assert ask("POST", "/done", sent)[0] in (400, 413)
    for path in ("/masks", "/picture", "/../todo/masks/a.png", "/mask/", "/images/a.png", "/mask?x"):
        assert ask("POST", path, mask, If_Match=match)[0] == 404
    for method, path in (("PUT", "/mask"), ("DELETE", "/mask"), ("GET", "/mask"), ("GET", "/done")):
        assert ask(method, path)[0] == 404
    for path in ("/model", "/masks", "/picture"):
        assert ask("GET", path, X_Gsegkit_Token=None)[0] == 403
        assert ask("GET", path, Origin="http://evil.example")[0] == 403
    assert content(todo) == before


def test_a_mask_that_cannot_be_written_is_told(ask, todo):
    match = ask("GET", "/masks", X_Gsegkit_Picture="1")[2]["ETag"]
    (todo / "masks" / "b.png").mkdir()
    status, said, _ = ask("POST", "/mask", painted("b").numpy().tobytes(), If_Match=match, X_Gsegkit_Picture="1")
    assert status == 400
    assert said


def test_what_paint_says_of_folders(todo, call, tmp_path):
    code, _, said = call("paint", todo, "--out", tmp_path / "page.html", "-q")
    assert code == 0, said
    assert "Annotate" in (tmp_path / "page.html").read_text(encoding="utf-8")
    before = content(tmp_path)
    for arguments, sentence in (
        (["--serve", "--classes", todo / "classes.yaml"], "is a folder to annotate, with class names of its own"),
        (["--serve", "-o", "painter.steps=2"], "is a folder to annotate, with class names of its own"),
        (["--out", todo / "classes.yaml"], "would be overwritten"),
    ):
        code, _, said = call("paint", todo, *arguments)
        assert (code, sentence in " ".join(said.split())) == (2, True), said
    (todo / "editor.html").write_text("mine")
    assert call("paint", todo)[0] == 2
    assert content(tmp_path) == {**before, "editor.html": b"mine"}
    (todo / "classes.yaml").unlink()
    with pytest.raises(ConfigError, match=r"has no classes\.yaml"):
        gsegkit.paint_server(todo)
    assert not (todo / ".lock").exists(), "nothing is written into a folder that cannot be edited"
