"""The painting server: it paints for its own page, and refuses everything else."""

import contextlib
import http.client
import json
import socket
import threading
import time

import pytest
import torch

from gsegkit.config import Config
from gsegkit.errors import ConfigError
from gsegkit.images import to_pixels
from gsegkit.painting import Painter, check_canvas, local
from gsegkit.painting.server import PaintServer
from gsegkit.painting.styles import Style, latents_of

PAGE = "<!doctype html><title>page</title>"
CLASSES = ("ground", "thing", "other")
SIZE = 6 * 8


class Stripes(Painter):
    """Grey by class and latent; `gate` holds it up, `painted` counts, `broken` fails."""

    region_styles = True

    def __init__(self):
        super().__init__(Config())
        self.classes, self.train_size, self.latent_dim = CLASSES, (6, 8), 4
        self.gate, self.painted, self.broken, self.begun = threading.Event(), [], False, 0
        self.gate.set()

    def fit(self, dataset, ctx, *, segmenter=None):
        """Nothing to learn."""

    def paint(self, masks, z):
        check_canvas(self, masks, z)
        if self.broken:
            raise RuntimeError("a secret path")
        self.begun += 1
        self.gate.wait(20)
        self.painted.append(masks)
        level = masks.float()[:, None] / 300 + z.flatten(1).mean(dim=1)[:, None, None, None].tanh() / 10
        return level.expand(-1, 3, -1, -1).contiguous()


class Client:
    """Raw requests to a server of this process."""

    def __init__(self, served):
        self.served = served
        self.host = f"127.0.0.1:{served.port}"
        self.said = served.said

    def headers(self, **changed):
        given = {"Host": self.host, "Origin": f"http://{self.host}", "Content-Type": "application/octet-stream",
                 "X-Gsegkit-Token": self.served.token}  # fmt: skip
        given.update({name.replace("_", "-"): value for name, value in changed.items()})
        return {name: value for name, value in given.items() if value is not None}

    def ask(self, method, path, body=None, length=True, *, ends=False, **changed):
        """(status, body, headers); a header of None is left out."""
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in self.headers(**changed).items())]
        if body is not None and length is not None:
            lines.append(f"Content-Length: {len(body) if length is True else length}")
        return self.raw("\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b""), ends)

    def raw(self, data, ends=False):
        with self.connect() as connection:
            connection.sendall(data)
            if ends:
                connection.shutdown(socket.SHUT_WR)
            return answer_on(connection)

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.served.port), timeout=20)


def until(there):
    """Wait until something is so, but not forever."""
    begun = time.monotonic()
    while not there():
        assert time.monotonic() - begun < 20
        time.sleep(0.01)


def answer_on(connection):
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    return answer.status, answer.read(), answer.headers


@pytest.fixture(scope="module")
def served():
    said = []
    served = PaintServer(Stripes(), PAGE, "default-src 'none'", {"size": [8, 6]}, say=said.append)
    served.said = said
    thread = threading.Thread(target=served.serve)
    thread.start()
    yield served
    served.shutdown()
    thread.join(20)
    assert not thread.is_alive()


@pytest.fixture
def client(served):
    painter = served.painter
    painter.painted, painter.broken, painter.begun = [], False, 0
    served.said.clear()
    yield Client(served)
    painter.gate.set()


def canvas(value=1):
    return bytes([value]) * SIZE


def body(mask=None, style=None):
    return (mask or canvas()) + (style or Style(3)).pack(len(CLASSES))


def test_it_paints_for_its_page(client):
    status, page, headers = client.ask("GET", "/", X_Gsegkit_Token=None, Origin=None)
    assert (status, page.decode()) == (200, PAGE)
    assert headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"
    status, model, _ = client.ask("GET", "/model", Origin=None)
    assert (status, json.loads(model)) == (200, {"size": [8, 6]})
    style = Style(7, 9, 0.25, (None, 4, None))
    for host in (client.host, client.host.replace("127.0.0.1", "localhost")):
        mask = bytes([0, 1, 2, 255] * 12)
        status, picture, _ = client.ask("POST", "/paint", body(mask, style), Host=host, Origin=f"http://{host}")
        assert status == 200
        painter = client.served.painter
        image = painter.paint(torch.tensor(list(mask), dtype=torch.uint8).view(1, 6, 8), latents_of(painter, style))
        assert picture == to_pixels(image)[0].permute(1, 2, 0).numpy().tobytes()
    assert client.served.url == f"http://{client.host}/#{client.served.token}"
    assert len(bytes.fromhex(client.served.token)) == 32
    assert not client.said


def test_every_answer_keeps_others_out(client):
    for asked in (
        ("GET", "/"),
        ("GET", "/model"),
        ("GET", "/nothing"),
        ("OPTIONS", "/paint"),
        ("POST", "/paint", body()),
    ):
        _, _, headers = client.ask(*asked)
        assert headers.get_all("Content-Security-Policy") == ["default-src 'none'; frame-ancestors 'none'"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cache-Control"] == "no-store"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert not [name for name in headers if name.lower().startswith("access-control")]
        assert headers["Server"] == "gsegkit"


@pytest.mark.parametrize("host", [None, "evil.example", "127.0.0.1", "127.0.0.1:1", "localhost.evil.example:{port}",
                                  "[::1]:{port}", "0.0.0.0:{port}", "127.0.0.1:{port}\r\nHost: evil.example"])  # fmt: skip
def test_a_request_for_another_host_is_refused(client, host):
    host = host and host.format(port=client.served.port)
    for asked in (("GET", "/"), ("GET", "/model"), ("POST", "/paint", body())):
        assert client.ask(*asked, Host=host)[0] == 403
    assert not client.served.painter.painted


@pytest.mark.parametrize("token", [None, "", "0" * 64, "é", "{token}\r\nX-Gsegkit-Token: {token}", "{token}0"])
def test_nothing_is_painted_or_told_without_the_token(client, token):
    token = token and token.format(token=client.served.token)
    for asked in (("GET", "/model"), ("POST", "/paint", body())):
        status, said, _ = client.ask(*asked, X_Gsegkit_Token=token)
        assert status == 403
        assert client.served.token not in said.decode()
    assert client.ask("GET", f"/model?token={client.served.token}", X_Gsegkit_Token=None)[0] == 404
    assert not client.served.painter.painted


@pytest.mark.parametrize("origin", [None, "null", "http://evil.example", "https://{host}", "http://{host}.evil.example",
                                    "http://127.0.0.1:1", "file://", "{host}", "http://{host}\r\nOrigin: x"])  # fmt: skip
def test_a_foreign_origin_is_refused(client, origin):
    origin = origin and origin.format(host=client.host)
    assert client.ask("POST", "/paint", body(), Origin=origin)[0] == 403
    if origin is not None:
        assert client.ask("GET", "/model", Origin=origin)[0] == 403
    assert not client.served.painter.painted


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_what_a_form_can_send_is_refused(client, kind):
    assert client.ask("POST", "/paint", body(), Content_Type=kind)[0] == 415


def test_bodies_have_one_length(client):
    whole = body()
    for sent, length, status in (
        (whole + b"x", True, 413),
        (whole, "9" * 30, 413),
        (b"x" * 600_000, True, 413),
        (whole[:-1], True, 400),
        (b"", True, 400),
        (whole[:-1], len(whole), 400),  # it ends early
        (whole, "-1", 400),
        (whole, f"+{len(whole)}", 400),
        (whole, f"{len(whole)}\r\nContent-Length: 5", 411),
        (whole, None, 411),
    ):
        assert client.ask("POST", "/paint", sent, length, ends=True)[0] == status, (len(sent), length)
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(whole), whole)
    assert client.ask("POST", "/paint", chunked, None, Transfer_Encoding="chunked")[0] == 411
    assert client.ask("POST", "/paint", whole, Transfer_Encoding="chunked")[0] == 411
    assert not client.served.painter.painted


def test_classes_and_styles_are_checked(client):
    status, said, _ = client.ask("POST", "/paint", body(canvas(len(CLASSES))))
    assert status == 400
    assert "the class 3" in said.decode()
    for style in (b"\0" * 8 + b"\0\0\xc0\x7f" + b"\xff" * 12, b"\xff" * 4 + b"\0" * 8 + b"\xff" * 12):  # NaN; no seed
        assert client.ask("POST", "/paint", body(style=Style(0))[:SIZE] + style)[0] == 400
    assert not client.served.painter.painted


@pytest.mark.parametrize("path", ["/../x", "/%2e%2e/%2e%2e/etc/passwd", "//", "//evil.example/", "/./", "/model/", "/model%00",
                                  "/MODEL", "/?", "/#", "\\", "*", "/paint", "http://{host}/", "/..%5cx", "/%6dodel"])  # fmt: skip
def test_no_path_leads_anywhere(client, path):
    path = path.format(host=client.host)
    assert client.ask("GET", path)[0] == 404
    if path != "/paint":
        assert client.ask("POST", path, body())[0] == 404


@pytest.mark.parametrize(
    "method", ["HEAD", "PUT", "OPTIONS", "DELETE", "PATCH", "TRACE", "CONNECT", "get", "__class__"]
)
def test_other_methods_are_refused(client, method):
    for path in ("/", "/model", "/paint"):
        assert client.ask(method, path)[0] == 404
    assert client.ask("POST", "/")[0] == 404


def test_what_is_no_request_is_refused(client):
    for data in (
        b"GET / HTTP/9\r\n\r\n",
        b"x" * 70_000 + b"\r\n\r\n",
        b"GET / HTTP/1.0\r\n" + b"a: b\r\n" * 200 + b"\r\n",
    ):
        try:
            status, _, _ = client.raw(data)
        except (http.client.HTTPException, ConnectionError):
            continue
        assert status >= 400
    with client.connect() as connection:
        connection.sendall(b"GET /\r\n\r\n")  # HTTP/0.9 knows no Host
        assert PAGE.encode() not in connection.makefile("rb").read()
    assert client.ask("GET", "/")[0] == 200
    assert not client.said


def test_what_trickles_in_ends(client, monkeypatch):
    monkeypatch.setattr(local, "REQUEST_SECONDS", 0.4)
    request = "POST /paint HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in client.headers().items())
    request += f"Content-Length: {len(body())}\r\n\r\n"
    with client.connect() as connection:  # the body does not come
        connection.sendall(request.encode() + b"abc")
        status, said, _ = answer_on(connection)
        assert (status, b"did not arrive" in said) == (408, True)
    with client.connect() as connection:  # a header every now and then
        begun = time.monotonic()
        connection.sendall(b"GET / HTTP/1.1\r\n")
        with pytest.raises(OSError):
            while time.monotonic() - begun < 20:
                connection.sendall(b"a: b\r\n")
                time.sleep(0.05)
        assert time.monotonic() - begun < 10
    assert client.ask("GET", "/")[0] == 200


def test_too_many_connections_do_not_pile_up(client):
    idle = [client.connect() for _ in range(local.CONNECTIONS)]
    until(lambda: client.served._free._value == 0)
    with client.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            assert connection.recv(10) == b""
    for connection in idle:
        connection.close()
    until(lambda: client.served._free._value == local.CONNECTIONS)
    assert client.ask("GET", "/")[0] == 200


def test_pictures_that_nobody_waits_for_are_not_painted(client):
    painter = client.served.painter
    painter.gate.clear()
    answers = []
    first = threading.Thread(target=lambda: answers.append(client.ask("POST", "/paint", body(canvas(0)))))
    first.start()
    until(lambda: client.served.painter.begun)
    given_up = client.connect()
    lines = [f"{name}: {value}" for name, value in client.headers().items()]
    head = "\r\n".join(["POST /paint HTTP/1.1", *lines, f"Content-Length: {len(body())}", "", ""])
    given_up.sendall(head.encode() + body(canvas(1)))
    until(lambda: client.served._brush._work_queue.qsize())
    given_up.close()
    painter.gate.set()
    first.join(20)
    assert client.ask("POST", "/paint", body(canvas(2)))[0] == 200
    assert answers[0][0] == 200
    assert [int(mask[0, 0, 0]) for mask in painter.painted] == [0, 2]


def test_what_fails_in_the_painter_stays_in_the_terminal(client):
    client.served.painter.broken = True
    status, said, _ = client.ask("POST", "/paint", body())
    assert (status, b"secret" in said) == (500, False)
    until(lambda: client.said)
    assert "a secret path" in client.said[0]


def test_a_port_is_listened_on_once(client):
    for port in (client.served.port, 99_999):
        with pytest.raises(ConfigError, match=f"cannot listen on port {port}") as refused:
            PaintServer(Stripes(), PAGE, "", {}, port=port, say=print)
        assert "--port" in refused.value.hint
