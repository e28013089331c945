"""A page, served to this machine alone: who may ask for what. What there is to ask for, its kinds of server say.

Listening on the loopback address keeps other machines out, but neither other programs nor the websites that are open in
a browser here. So a request must carry a token, which stands in the address behind the # (no browser sends that part,
and no log has it), must be meant for this very server (Host), and must come from its page (Origin). There are a few
addresses, and no path leads to a file.
"""

from __future__ import annotations

import hmac
import io
import os
import secrets
import select
import socket
import socketserver
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import BoundedSemaphore
from typing import Any, Protocol

from gsegkit.errors import ConfigError, GsegkitError

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


@dataclass(frozen=True)
class Answer:
    """What is sent back.

    Attributes:
        body: its bytes.
        kind: content type.
        headers: more than those of every answer.
    """

    body: bytes
    kind: str = BYTES
    headers: Mapping[str, str] = field(default_factory=dict)


class Refusal(Exception):
    """A request that is not answered with what it asks for.

    Attributes:
        status: of HTTP.
    """

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class Request(Protocol):
    """What an address gets to see of a request. The token is checked; for a POST also where it comes from."""

    def body(self, size: int) -> bytes:
        """Its bytes, which are exactly so many; Refusal otherwise."""

    def header(self, name: str) -> str | None:
        """The value of a header; None where it is missing, or there more than once."""

    def waiting(self) -> bool:
        """Whether the client is still there."""


Address = Callable[[Request], Answer | None]


class LocalServer(ThreadingHTTPServer):
    """Serves a page, and what the page asks for.

    Attributes:
        url: what to open, the token included.
        token: 64 hex digits.
        port: where it listens.
        gets: what there is beside the page; `/model` is what the page asks for first.
        posts: what the page may send.

    Args:
        page: HTML.
        policy: its content policy.
        port: where to listen; 0 = a free one.
        say: gets a line about each error that is not the client's.

    Raises:
        ConfigError: the port cannot be listened on.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = CONNECTIONS
    allow_reuse_address = os.name == "posix"  # elsewhere it would let two servers share a port
    gets: Mapping[str, Address]
    posts: Mapping[str, Address]

    def __init__(self, page: str, policy: str, *, port: int = 0, say: Callable[[str], None]) -> None:
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
        self.page, self.policy = page.encode(), f"{policy}; frame-ancestors 'none'"
        self.say = say
        self._free = BoundedSemaphore(CONNECTIONS)

    def server_bind(self) -> None:
        """Listen; `HTTPServer` would look up this machine's name, which can take long."""
        socketserver.TCPServer.server_bind(self)

    def serve(self) -> None:
        """Answer until Ctrl-C."""
        try:
            self.serve_forever(poll_interval=0.2)
        except KeyboardInterrupt:
            pass
        finally:
            self.server_close()

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


class _Handler(BaseHTTPRequestHandler):
    """One request; the connection is closed after it (HTTP/1.0), so nothing can be smuggled behind a body."""

    server: LocalServer

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
        """The page, or what it asks for."""
        self._answer(self.server.gets)

    def do_POST(self) -> None:
        """What the page sends."""
        self._answer(self.server.posts, sent=True)

    # ---- the request, see `Request` --------------------------------------------------------------------------------

    def body(self, size: int) -> bytes:
        """See `Request.body`."""
        given = self.header("Content-Length")
        if given is None or self.headers.get_all("Transfer-Encoding"):
            raise Refusal(411, "the request does not say how long it is")
        if given != str(size):
            raise Refusal(413 if given.isdecimal() and int(given[:20]) > size else 400, f"a request has {size} bytes")
        try:
            body = self.rfile.read(size)
        except TimeoutError:
            raise Refusal(408, f"the request did not arrive within {REQUEST_SECONDS:.0f} seconds") from None
        if len(body) < size:
            raise Refusal(400, f"the request ended after {len(body)} of {size} bytes")
        return body

    def header(self, name: str) -> str | None:
        """See `Request.header`."""
        values = self.headers.get_all(name, [])
        return str(values[0]) if len(values) == 1 else None

    def waiting(self) -> bool:
        """See `Request.waiting`: a page gives up what a newer mask has made useless."""
        readable, _, _ = select.select([self.connection], [], [], 0)
        return not readable or bool(self.connection.recv(1, socket.MSG_PEEK))

    # ---- who may ask ---------------------------------------------------------------------------------------------

    def _answer(self, there: Mapping[str, Address], *, sent: bool = False) -> None:
        try:
            self._check_sender()
            path = self.requestline.split()[1]  # as it was sent: no path is tidied up
            if path == "/" and not sent:
                kind, policy = "text/html; charset=utf-8", {"Content-Security-Policy": self.server.policy}
                self._send(200, self.server.page, kind, policy)
                return
            found = there.get(path)
            if found is None:
                raise Refusal(404, "there is nothing at this address")
            self._check_token()
            if sent:
                self._check_page()
            if (answer := found(self)) is not None:
                self._send(200, answer.body, answer.kind, answer.headers)
        except Refusal as refusal:
            self._refuse(refusal.status, str(refusal))
        except GsegkitError as error:
            self._refuse(400, str(error))
        except OSError:
            raise
        except Exception:
            self._refuse(500, "this could not be done; the terminal says why")
            raise

    def _check_sender(self) -> None:
        """Host names this server, and Origin, where there is one, its page."""
        if self.request_version == "HTTP/0.9" or self.header("Host") not in self.server.hosts:
            raise Refusal(403, "the request is meant for another host")
        if self.headers.get_all("Origin") and self.header("Origin") not in self.server.origins:
            raise Refusal(403, "the request does not come from the page of this server")

    def _check_token(self) -> None:
        given = self.header(TOKEN) or ""
        if not hmac.compare_digest(given.encode(), self.server.token.encode()):
            raise Refusal(403, "the key is missing or wrong: open the address that gsegkit printed")

    def _check_page(self) -> None:
        """What is sent comes from the page, and no form of another page can have sent it."""
        if self.header("Origin") is None:
            raise Refusal(403, "the request does not come from the page of this server")
        if self.header("Content-Type") != BYTES:
            raise Refusal(415, f"this is sent as {BYTES}")

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
