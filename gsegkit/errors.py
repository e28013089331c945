"""The exception tree. Every error says what was wrong, and its hint says what to do about it."""

from __future__ import annotations

from collections.abc import Sequence

MAX_MESSAGE = 4000  # characters: whatever a file or a command line holds, an error ends


class GsegkitError(Exception):
    """Base of every error that the user can fix; the command line prints it and exits with 2.

    Attributes:
        message: one sentence: what was wrong, with the value that was found.
        hint: one sentence or command: what to do. May be empty.

    Example:
        >>> str(GsegkitError("folder 'out' is not empty", "choose another --out"))
        "folder 'out' is not empty (choose another --out)"
    """

    exit_code = 2

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message[:MAX_MESSAGE])
        self.message = message if len(message) <= MAX_MESSAGE else message[:MAX_MESSAGE] + " ..."
        self.hint = hint[:MAX_MESSAGE]

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class UnknownPluginError(GsegkitError):
    """No installed component has this kind and name."""


class PluginConflictError(GsegkitError):
    """Two distributions offer the same name, and the name was used without `@distribution`."""


class PluginLoadError(GsegkitError):
    """A plugin's own code failed while it was imported or constructed."""


class MissingDependencyError(GsegkitError):
    """A component needs a package that is not installed."""


class ConfigError(GsegkitError):
    """An option is unknown, out of range, or contradicts another."""


class CapabilityError(GsegkitError):
    """A component needs something that its partner does not provide."""


class DataError(GsegkitError):
    """An image, a mask, or a folder of them cannot be used."""


class NoMasksError(DataError):
    """A folder holds images and no annotation of any of them."""


class ArtifactError(GsegkitError):
    """A stored file (weights, dataset shard, component) is damaged, hostile, or of the wrong kind."""


class StorageError(GsegkitError):
    """A file could not be written: disk full, read-only, or no permission."""


class RunLockedError(GsegkitError):
    """Another process is working in this run folder."""


class ContractError(GsegkitError):
    """A plugin returned something that its interface forbids; names plugin, method, expected and got."""


class DivergedError(GsegkitError):
    """Training produced non-finite numbers or collapsed; the last good state is kept."""


class LostProcessError(GsegkitError):
    """Of the processes of a run one ended without a word, or says nothing any more; `ranks` says which."""

    def __init__(self, message: str, ranks: Sequence[int] = ()) -> None:
        super().__init__(message, "see what happened there, then run the same command again: finished work is kept")
        self.ranks = tuple(ranks)


class InterruptedRunError(GsegkitError):
    """Stopped by the user; the run can be resumed by the same command."""

    exit_code = 130


def and_more(items: Sequence[str], shown: int = 5, separator: str = "; ") -> str:
    """The first items of a list in a message, and how many were left out.

    >>> and_more(["a.png", "b.png", "c.png"], shown=2)
    'a.png; b.png and 1 more'
    """
    rest = len(items) - shown
    return separator.join(items[:shown]) + (f" and {rest} more" if rest > 0 else "")


def plural(count: int, noun: str) -> str:
    """A number of things.

    >>> plural(1, "image"), plural(2, "class")
    ('1 image', '2 classes')
    """
    return f"{count} {noun}" + ("" if count == 1 else "es" if noun.endswith("s") else "s")
