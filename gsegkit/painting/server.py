"""The painting page's server: its pictures are painted here, and nothing is written. Who may ask: see `local`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

from gsegkit.errors import DataError
from gsegkit.images import to_pixels
from gsegkit.painting.local import Answer, LocalServer, Request
from gsegkit.painting.painter import Painter
from gsegkit.painting.styles import Style, latents_of, packed_size


class PaintServer(LocalServer):
    """Serves the page, and paints for it, one picture at a time.

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
        super().__init__(page, policy, port=port, say=say)
        self.painter, self.model = painter, json.dumps(model).encode()
        self.body_size = painter.train_size[0] * painter.train_size[1] + packed_size(len(painter.classes))
        self.gets = {"/model": lambda request: Answer(self.model, "application/json")}
        self.posts = {"/paint": self._paint}
        self._brush = ThreadPoolExecutor(max_workers=1, thread_name_prefix="painter")  # in the place of a lock

    def warm_up(self) -> None:
        """Begin with a picture for nobody: the first one takes longer, and the browser is not there yet."""
        canvas = torch.zeros(1, *self.painter.train_size, dtype=torch.uint8)
        self._brush.submit(lambda: self.painter.paint(canvas, latents_of(self.painter, Style(0))))

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

    def _paint(self, request: Request) -> Answer | None:
        picture = self.paint(request.body(self.body_size), request.waiting)
        return None if picture is None else Answer(picture)
