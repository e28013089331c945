"""The command line: registers the commands, and turns errors into one sentence, a remedy and an exit code."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from importlib import metadata
from typing import Annotated

import typer

from gsegkit.cli import (
    annotating,
    choosing,
    comparing,
    fitting,
    importing,
    look,
    names,
    painting,
    pair_scores,
    planning,
    plugins,
    reproducing,
    starting,
    work,
)
from gsegkit.cli.extensions import add_commands
from gsegkit.cli.options import console
from gsegkit.cli.terminal import show_error
from gsegkit.errors import GsegkitError
from gsegkit.launching.process import FOLLOWS, follow_starter
from gsegkit.plugins import installed
from gsegkit.records.text import shown

app = typer.Typer(
    name="gsegkit",
    help="Turn any generative image model into a segmenter, without a single label.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

COMMANDS: dict[str, Callable[..., None]] = {
    "list": look.list_components,
    "show": look.show,
    "check": work.check,
    "plan": planning.plan,
    "run": work.run,
    "name": names.name,
    "match": names.match,
    "synthesize": work.synthesize,
    "train": work.train,
    "train-generator": work.train_generator,
    "train-painter": painting.train_painter,
    "start": starting.start,
    "fit": fitting.fit,
    "evaluate": work.evaluate,
    "evaluate-generator": work.evaluate_generator,
    "evaluate-pairs": pair_scores.evaluate_pairs,
    "annotate": annotating.annotate,
    "paint": painting.paint,
    "evaluate-painter": painting.evaluate_painter,
    "compare": comparing.compare,
    "choose": choosing.choose,
    "reproduce": reproducing.reproduce,
    "predict": work.predict,
    "export": work.export,
    "import": importing.import_file,
    "samples": look.samples,
    "report": work.report,
    "doctor": look.doctor,
    "new-plugin": plugins.new_plugin,
    "test-plugin": plugins.check_plugin,
}
#: Set while the shell asks for completions: then nothing else may be printed.
COMPLETION = ("_GSEGKIT_COMPLETE", "_TYPER_COMPLETE_ARGS")
#: In torch's messages when the CPU or a GPU has no memory left.
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "Storage size calculation overflowed")
MEMORY_REMEDY = "take a smaller batch (-o run.batch_size=4, -o seg.batch_size=4), smaller images, or fewer classes"
for _name, _function in COMMANDS.items():
    app.command(_name)(_function)


def _print_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"gsegkit {metadata.version('gsegkit')}\n")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """The options of gsegkit itself."""


def _with_plugins() -> None:
    """The core's commands and the plugins'; a plugin whose commands cannot be used is told in one line."""
    del app.registered_commands[len(COMMANDS) :]
    app.registered_groups.clear()
    failures = add_commands(app, installed(), COMMANDS)
    if not any(variable in os.environ for variable in COMPLETION):
        for failure in failures:
            console.print(
                f"warning: the commands of plugin {failure.dist} are left out ({failure.reason}); see gsegkit doctor",
                soft_wrap=True,
            )  # fmt: skip


def main() -> None:
    """Entry point of the `gsegkit` script."""
    # Before torch is imported: waiting threads must sleep, not spin. On a machine that does other work too, spinning
    # makes everything several times slower; on an idle one no difference was measured.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if os.environ.get("WORLD_SIZE"):  # the connections' own warnings come with pages of C++; we say it in a sentence
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    if os.environ.pop(FOLLOWS, ""):  # a launcher started this process
        follow_starter()
    try:
        _with_plugins()
        app()
    except GsegkitError as error:
        show_error(console, error.message, error.hint)
        sys.exit(error.exit_code)
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not any(sign in str(error) for sign in OUT_OF_MEMORY):
            raise
        show_error(console, "there is not enough memory for this", MEMORY_REMEDY)
        sys.exit(2)
    except KeyboardInterrupt:
        show_error(console, "stopped immediately", "run the same command again to continue from the last checkpoint")
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(141)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        show_error(
            console, f"a path is too long for the file system: {shown(str(error.filename))}", "give a shorter one"
        )
        sys.exit(2)
