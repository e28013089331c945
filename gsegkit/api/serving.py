"""The painting page, served: for painters that need Python, for runs, and as the editor of a folder to annotate."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gsegkit.api.arguments import checked
from gsegkit.api.given import ClassNames, given_names, names_of_run
from gsegkit.api.painting import open_painter
from gsegkit.api.session import Session
from gsegkit.editing.folder import AnnotationFolder, can_be_edited
from gsegkit.errors import ConfigError
from gsegkit.painting.examples import Examples, examples_of, stored_examples
from gsegkit.painting.page import page_data, policy, render
from gsegkit.painting.painter import Painter
from gsegkit.painting.sampling import MaskSampling
from gsegkit.rundir import RunFolder

if TYPE_CHECKING:
    from gsegkit.painting.local import LocalServer

SAMPLES = 64  # of the generator, among which a run's examples are chosen


@checked
def paint_server(
    folder: str | Path,
    *,
    classes: ClassNames | None = None,
    options: dict[str, Any] | None = None,
    port: int = 0,
    device: str = "auto",
    session: Session | None = None,
) -> LocalServer:
    """A server of the painting page on this machine, listening. `serve()` answers until Ctrl-C; `url` is what to open.

    Of a folder of `annotate`, or one of your own photographs (images/ and classes.yaml), the page is an editor: it
    paints no pictures, and saves masks into the folder, which is locked meanwhile.

    Args:
        folder: of `train_painter`; a finished run, which paints by mask-sampling; or a folder to annotate.
        classes: names for a run's clusters, see `open_painter`.
        options: of mask-sampling.
        port: where to listen; 0 = a free one.
        device: where to compute.
        session: see `run`.

    Raises:
        ConfigError: the port cannot be listened on; class names or options for a folder to annotate, or it cannot be
            edited; and see `open_painter`.
        DataError: pictures or masks of a folder to annotate do not fit.
    """
    from gsegkit.painting.server import PaintServer

    session, folder = session or Session.default(), Path(folder)
    if can_be_edited(folder):
        if classes is not None or options:
            raise ConfigError(
                f"'{folder}' is a folder to annotate, with class names of its own", "omit class names and options"
            )
        return _edit_server(folder, port, session)
    painter = open_painter(folder, classes=classes, options=options, device=device, session=session)
    examples = _examples(painter, folder, given_names(classes, folder, session, device))
    model = page_data(painter, examples, folder.resolve().name)
    ctx = session.context(folder, device)
    server = PaintServer(painter, render(), policy(static=False), model, port=port, say=ctx.warn)
    server.warm_up()
    return server


def _edit_server(folder: Path, port: int, session: Session) -> LocalServer:
    from gsegkit.editing.server import EditServer

    say = session.context(folder, "cpu").warn
    with ExitStack() as held:
        AnnotationFolder(folder)  # before anything is written there, which the lock is
        held.enter_context(RunFolder(folder).locked())
        server = EditServer(AnnotationFolder(folder), folder.resolve().name, port=port, say=say)
        server.held = held.pop_all()
    return server


def _examples(painter: Painter, folder: Path, names: Any) -> Examples:
    if not isinstance(painter, MaskSampling):
        return stored_examples(folder, painter)
    return examples_of(painter.samples(SAMPLES), folder, names_of_run(folder, names))
