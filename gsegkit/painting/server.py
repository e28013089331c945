"""The painting page, served to this machine alone; its pictures are painted here.

Listening on the loopback address keeps other machines out, but neither other programs nor the websites that are open in
a browser here. So a request must carry a token, which stands in the address behind the # (no browser sends that part,
and no log has it), must be meant for this very server (Host), and must come from its page (Origin). There are three
addresses, and no path leads to a file.
"""

from __future__ import annotations

import hmac
import io
import json
import os
import secrets
import select
import socket
import socketserver
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import BoundedSemaphore
from typing import Any

import torch

from gsegkit.errors import ConfigError, DataError, GsegkitError
from gsegkit.images import to_pixels
from gsegkit.painting.painter import Painter
from gsegkit.painting.styles import Style, latents_of, packed_size

ADDRESS = "127.0.0.1"
TOKEN = "X-Gsegkit-Token"  # header
BYTES = "application/octet-stream"  # of requests and pictures: no form of a foreign page can send it
REQUEST_SECONDS = 10.0  # in which a request must have arrived, and in which its answer must be taken
DRAIN_SECONDS, DRAINED = 1.0, 1 << 20  # and bytes of a refused body that are still read, so that the refusal arrives
CONNECTIONS = 16  # at a time; more are closed unanswered

NOTHING: Mapping[str, str] = {}
HEADERS = {  # of every answer
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",  # the page has a policy of its own
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Connection": "close",
}


class PaintServer(ThreadingHTTPServer):
    """Serves the page, and paints for it, one picture at a time.

    Attributes:
        url: what to open, the token included.
        token: 64 hex digits.
        port: where it listens.

    Args:
        painter: fitted.
        page: HTML that asks for `model` and sends masks to `paint`.
        policy: the page's content policy.
        model: JSON-ready answer to `GET /model`.
        port: where to listen; 0 = a free one.
        say: gets a line about each error that is not the client's.

    Raises:
        ConfigError: the port cannot be listened on.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = CONNECTIONS
    allow_reuse_address = os.name == "posix"  # elsewhere it would let two servers share a port

    def __init__(
        self,
        painter: Painter,
        page: str,
        policy: str,
        model: Mapping[str, Any],
        *,
        port: int = 0,
        say: Callable[[str], None],
    ) -> None:
        try:
            super().__init__((ADDRESS, port), _Handler)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise ConfigError(
                f"cannot listen on port {port}: {reason}", "choose another --port, or omit it to take a free one"
            ) from None
        self.port = int(self.server_address[1])
        self.token = secrets.token_hex(32)
        self.url = f"http://{ADDRESS}:{self.port}/#{self.token}"
        self.hosts = frozenset(f"{name}:{self.port}" for name in (ADDRESS, "localhost"))
        self.origins = frozenset(f"http://{host}" for host in self.hosts)
        self.page, self.model = page.encode(), json.dumps(model).encode()
        self.policy = f"{policy}; frame-ancestors 'none'"
        self.painter, self.say = painter, say
        self.body_size = painter.train_size[0] * painter.train_size[1] + packed_size(len(painter.classes))
        self._brush = ThreadPoolExecutor(max_workers=1, thread_name_prefix="painter")  # in the place of a lock
        self._free = BoundedSemaphore(CONNECTIONS)

    def server_bind(self) -> None:
        """Listen; `HTTPServer` would look up this machine's name, which can take long."""
        socketserver.TCPServer.server_bind(self)

    def warm_up(self) -> None:
        """Begin with a picture for nobody: the first one takes longer, and the browser is not there yet."""
        canvas = torch.zeros(1, *self.painter.train_size, dtype=torch.uint8)
        self._brush.submit(lambda: self.painter.paint(canvas, latents_of(self.painter, Style(0))))

    def serve(self) -> None:
        """Answer until Ctrl-C."""
        try:
            self.serve_forever(poll_interval=0.2)
        except KeyboardInterrupt:
            pass
        finally:
            self.server_close()

    def server_close(self) -> None:
        """Close the port; the picture that is being painted is finished, no other is begun."""
        super().server_close()
        if hasattr(self, "_brush"):  # it is called, too, when the port cannot be listened on
            self._brush.shutdown(wait=True, cancel_futures=True)

    def paint(self, body: bytes, wanted: Callable[[], bool]) -> bytes | None:
        """A picture, H * W * 3 bytes RGB; None when nobody waits for it any more.

        Args:
            body: H * W bytes of classes, 255 = unknown, then the style, see `Style.pack`.
            wanted: whether somebody waits; asked when the painter is free.

        Raises:
            GsegkitError: another length, or a class or a style that the painter does not know.
        """
        height, width = self.painter.train_size
        if len(body) != self.body_size:
            raise DataError(f"{len(body)} bytes were sent, and a mask with its style has {self.body_size}")
        mask = torch.frombuffer(bytearray(body[: height * width]), dtype=torch.uint8).view(1, height, width)
        style = Style.unpack(body[height * width :], len(self.painter.classes))

        def picture() -> bytes | None:
            if not wanted():
                return None
            pixels = to_pixels(self.painter.paint(mask, latents_of(self.painter, style)))
            return bytes(pixels[0].permute(1, 2, 0).contiguous().cpu().numpy().tobytes())

        return self._brush.submit(picture).result()

    # ---- connections ---------------------------------------------------------------------------------------------

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread of its own; where too many are open, close the connection."""
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """See `ThreadingMixIn`."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say what failed; a connection that broke is nobody's concern."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            self.say(f"a request failed: {type(error).__name__}: {error}")


class _Refusal(Exception):
    """A request that is not answered with what it asks for."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    """One request; the connection is closed after it (HTTP/1.0), so nothing can be smuggled behind a body."""

    server: PaintServer

    def setup(self) -> None:
        """Read through a clock: a request that trickles in ends like one that stops."""
        super().setup()
        self.rfile.close()
        self.arriving = _Arriving(self.connection, time.monotonic() + REQUEST_SECONDS)
        self.rfile = io.BufferedReader(self.arriving)

    def version_string(self) -> str:
        """Of the header Server: no versions."""
        return "gsegkit"

    def do_GET(self) -> None:
        """The page, or its data."""
        self._answer({"/": self._page, "/model": self._model})

    def do_POST(self) -> None:
        """A picture."""
        self._answer({"/paint": self._paint})

    # ---- what there is -------------------------------------------------------------------------------------------

    def _page(self) -> None:
        self._send(200, self.server.page, "text/html; charset=utf-8", {"Content-Security-Policy": self.server.policy})

    def _model(self) -> None:
        self._check_token()
        self._send(200, self.server.model, "application/json")

    def _paint(self) -> None:
        self._check_token()
        if self._only("Origin") is None:
            raise _Refusal(403, "the request does not come from the page of this server")
        if self._only("Content-Type") != BYTES:
            raise _Refusal(415, f"a mask is sent as {BYTES}")
        picture = self.server.paint(self._body(), self._waiting)
        if picture is not None:
            self._send(200, picture, BYTES)

    def _body(self) -> bytes:
        size, given = self.server.body_size, self._only("Content-Length")
        if given is None or self.headers.get_all("Transfer-Encoding"):
            raise _Refusal(411, "the request does not say how long it is")
        if given != str(size):
            raise _Refusal(413 if given.isdecimal() and int(given[:20]) > size else 400, f"a request has {size} bytes")
        try:
            body = self.rfile.read(size)
        except TimeoutError:
            raise _Refusal(408, f"the request did not arrive within {REQUEST_SECONDS:.0f} seconds") from None
        if len(body) < size:
            raise _Refusal(400, f"the request ended after {len(body)} of {size} bytes")
        return body

    def _waiting(self) -> bool:
        """Whether the client is still there: a page gives up what a newer mask has made useless."""
        readable, _, _ = select.select([self.connection], [], [], 0)
        return not readable or bool(self.connection.recv(1, socket.MSG_PEEK))

    # ---- who may ask ---------------------------------------------------------------------------------------------

    def _answer(self, there: Mapping[str, Callable[[], None]]) -> None:
        try:
            self._check_sender()
            found = there.get(self.requestline.split()[1])  # as it was sent: no path is tidied up
            if found is None:
                raise _Refusal(404, "there is nothing at this address")
            found()
        except _Refusal as refusal:
            self._refuse(refusal.status, str(refusal))
        except GsegkitError as error:
            self._refuse(400, str(error))
        except OSError:
            raise
        except Exception:
            self._refuse(500, "the picture could not be painted; the terminal says why")
            raise

    def _check_sender(self) -> None:
        """Host names this server, and Origin, where there is one, its page."""
        if self.request_version == "HTTP/0.9" or self._only("Host") not in self.server.hosts:
            raise _Refusal(403, "the request is meant for another host")
        if self.headers.get_all("Origin") and self._only("Origin") not in self.server.origins:
            raise _Refusal(403, "the request does not come from the page of this server")

    def _check_token(self) -> None:
        given = self._only(TOKEN) or ""
        if not hmac.compare_digest(given.encode(), self.server.token.encode()):
            raise _Refusal(403, "the key is missing or wrong: open the address that gsegkit printed")

    def _only(self, header: str) -> str | None:
        """The value of a header; None where it is missing, or there more than once."""
        values = self.headers.get_all(header, [])
        return str(values[0]) if len(values) == 1 else None

    # ---- answers -------------------------------------------------------------------------------------------------

    def _send(self, status: int, body: bytes, kind: str, more: Mapping[str, str] = NOTHING) -> None:
        self.connection.settimeout(REQUEST_SECONDS)
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **HEADERS, **more}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _refuse(self, status: int, sentence: str) -> None:
        self._send(status, sentence.encode(), "text/plain; charset=utf-8")
        self.connection.shutdown(socket.SHUT_WR)
        self.arriving.deadline = time.monotonic() + DRAIN_SECONDS
        left = DRAINED if self.headers.get("Content-Length") or self.headers.get("Transfer-Encoding") else 0
        try:  # closing with unread bytes would reset the connection, and the refusal with it
            while left > 0 and (read := self.rfile.read1(left)):
                left -= len(read)
        except OSError:
            pass

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the base class refuses: a line that is no request, too many headers, a method that we do not have."""
        if not hasattr(self, "headers"):
            self.headers = self.MessageClass()
        self._refuse(404 if code == 501 else int(code), "this is no request that the server knows")

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is logged."""


class _Arriving(io.RawIOBase):
    """What arrives on a connection until a deadline."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self.connection, self.deadline = connection, deadline

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """TimeoutError after the deadline."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self.connection.settimeout(left)
        return self.connection.recv_into(buffer)
