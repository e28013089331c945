"""The editor's server: it reads the pictures of one folder and writes their masks. Who may ask: see `painting.local`.

A request names a picture by its number; no path, and no name, comes from the page.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from threading import Lock

import torch

from gsegkit.editing.folder import AnnotationFolder
from gsegkit.editing.page import listed, model, served_editor
from gsegkit.errors import DataError
from gsegkit.images import png_bytes
from gsegkit.painting.local import Answer, LocalServer, Refusal, Request

PICTURE = "X-Gsegkit-Picture"  # header: number of a picture, from 0


class EditServer(LocalServer):
    """Serves the page, pictures and masks; saves masks, one at a time.

    A mask is saved only over the one that the page knows (`If-Match`): what another program wrote meanwhile stays.

    Attributes:
        held: closed with the server, such as the folder's lock.

    Args:
        folder: what is edited.
        title: what the page calls it.
        port: where to listen; 0 = a free one.
        say: gets a line about each error that is not the client's.

    Raises:
        ConfigError: the port cannot be listened on.
    """

    def __init__(self, folder: AnnotationFolder, title: str, *, port: int = 0, say: Callable[[str], None]) -> None:
        page, policy = served_editor()
        super().__init__(page, policy, port=port, say=say)
        self.folder, self.title = folder, title
        self._pictures = listed(folder)
        self._writing, self.held = Lock(), ExitStack()
        self.gets = {"/model": self._model, "/picture": self._picture, "/masks": self._masks}
        self.posts = {"/mask": self._save, "/done": self._done}

    def server_close(self) -> None:
        """Close the port, and let go of the folder once the mask that is being saved is written."""
        super().server_close()
        if hasattr(self, "held"):  # it is called, too, when the port cannot be listened on
            with self._writing:
                self.held.close()

    # ---- what there is -------------------------------------------------------------------------------------------

    def _model(self, request: Request) -> Answer:
        folder = self.folder
        rows = [
            {**row, "changed": folder.changed(index), "done": folder.done(index)}
            for index, row in enumerate(self._pictures)
        ]
        return Answer(json.dumps({**model(folder, self.title), "pictures": rows}).encode(), "application/json")

    def _picture(self, request: Request) -> Answer:
        return Answer(png_bytes(self.folder.pixels(self._index(request))), "image/png")

    def _masks(self, request: Request) -> Answer:
        """Two bytes a pixel: all of the mask, then all of its draft."""
        index = self._index(request)
        with self._writing:
            both = torch.stack([self.folder.mask(index), self.folder.draft(index)])
            return Answer(both.numpy().tobytes(), headers=self._revision(index))

    def _save(self, request: Request) -> Answer:
        index = self._index(request)
        height, width = self.folder.pictures[index].size
        body = request.body(height * width)
        mask = torch.frombuffer(bytearray(body), dtype=torch.uint8).view(height, width)
        with self._writing:
            if request.header("If-Match") != self._revision(index)["ETag"]:
                raise Refusal(412, "this mask was changed by another page or program; reload the page to see it")
            self.folder.save(index, mask)
            return Answer(b"", headers=self._revision(index))

    def _done(self, request: Request) -> Answer:
        index, body = self._index(request), request.body(1)
        if body not in (b"\0", b"\1"):
            raise DataError(f"a picture is done (1) or not (0), not {body[0]}")
        with self._writing:
            self.folder.set_done(index, body == b"\1")
        return Answer(b"")

    def _index(self, request: Request) -> int:
        given, count = request.header(PICTURE) or "", len(self.folder.pictures)
        if not (given.isascii() and given.isdecimal() and len(given) < 6 and int(given) < count):
            raise Refusal(400, f"pictures are numbered from 0 to {count - 1}")
        return int(given)

    def _revision(self, index: int) -> Mapping[str, str]:
        return {"ETag": f'"{self.folder.revision(index)}"'}
