"""Which of the family's files a file is, and for which generators."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from gsegkit_foreign import ForeignFile, Network, networks, opened, taken_note
from torch import Tensor

from gsegkit.checkpoints import CheckpointFile
from gsegkit.errors import ArtifactError
from gsegkit_resgan.readers.biggan import biggan_deep_hf, biggan_pytorch, same_rows
from gsegkit_resgan.readers.found import Found
from gsegkit_resgan.readers.selfcond import selfcond
from gsegkit_resgan.readers.studio import studiogan

Read = Callable[[dict[str, Tensor]], Found]
Words = tuple[str, ...]
Layout = Callable[[Network, Words], "Match | None"]


@dataclass(frozen=True)
class Match:
    """A file of the family.

    Attributes:
        generators: names of the generators that it may be for; several when they have the same network.
        network: where in the file it lies.
        layout: reads its tensors.
        notes: which of several networks was taken.
    """

    generators: tuple[str, ...]
    network: Network
    layout: Read
    notes: tuple[str, ...] = ()

    def read(self) -> Found:
        """The tensors, read and folded; ArtifactError when something does not fit, which names the file."""
        where = self.network.file.path
        try:
            found = self.layout(dict(self.network.tensors))
        except ArtifactError as error:
            prefix = "" if error.message.startswith(str(where)) else f"{where}: "
            raise ArtifactError(prefix + error.message, error.hint) from None
        return replace(found, notes=(*found.notes, *self.notes))


def find(file: CheckpointFile) -> Match | None:
    """What a file is; None when it is not of this family.

    Raises:
        ArtifactError: damaged, hostile, or of the family and not supported.
    """
    known: list[tuple[Network, Match]] = []
    words: Words = ()
    for network in _preferred(networks(file)):
        words = words or _words(file, opened(file), network)
        match = next((m for m in (layout(network, words) for layout in _LAYOUTS) if m is not None), None)
        if match is not None and (network.role != "other" or not known):
            known.append((network, match))
    if not known:
        return None
    taken, match = known[0]
    return replace(match, notes=_taken(taken, [network for network, _ in known]))


def read_generator(path: str | Path) -> Found:
    """Read a file of the family; ArtifactError for any other."""
    match = find(CheckpointFile(Path(path)))
    if match is None:
        raise ArtifactError(f"{path}: not a generator of this family", "see gsegkit import --look")
    return match.read()


def _preferred(found: Sequence[Network]) -> list[Network]:
    """SelfCondGAN's code calls its average `generator_test`; nothing else in a file of this family is called so."""
    return sorted(found, key=lambda network: not network.path.endswith("generator_test"))


def _taken(taken: Network, known: Sequence[Network]) -> tuple[str, ...]:
    """A note that says which of several networks was taken."""
    if len(known) > 1 and taken.path.endswith("generator_test"):
        return ("of the file's networks 'generator_test' was taken, whose weights are averages",)
    return taken_note(taken, known)


def _words(file: CheckpointFile, foreign: ForeignFile, network: Network) -> Words:
    """What may name the method, the best witness first: the run's name in the file, the file's, its folder's."""
    run = network.beside.get("run_name")
    text = foreign.shallow(run) if run is not None else ""
    parts = [text[:200] if isinstance(text, str) else "", file.path.stem, file.path.absolute().parent.name]
    return tuple(part.lower() for part in parts)


# ---- layouts -------------------------------------------------------------------------------------------------------


def _biggan_pytorch(network: Network, words: Words) -> Match | None:
    names = network.names
    if "output_layer.2.weight" not in names or "linear.weight" not in names or "blocks.0.0.conv1.weight" not in names:
        return None
    raw = network.table.get("shared.weight")
    shared = network.file.tensor(raw, "shared.weight") if raw is not None else None
    if same_rows(shared) or (shared is not None and any("bigbigan" in text for text in words)):
        return Match(("bigbigan",), network, partial(biggan_pytorch, unconditional=True))
    return Match(("biggan",), network, biggan_pytorch)


def _biggan_deep_hf(network: Network, words: Words) -> Match | None:
    if "generator.gen_z.weight_orig" not in network.names:
        return None
    return Match(("biggan",), network, biggan_deep_hf)


def _studiogan(network: Network, words: Words) -> Match | None:
    names = network.names
    if not names & {"linear0.weight", "linear0.weight_orig"} or "linear0.bias" not in names:
        return None
    _refuse_unsupported(network)
    if not names & {"conv2d5.weight", "conv2d5.weight_orig"}:
        return None
    normed = "linear0.weight_orig" in names
    choices: tuple[str, ...] = ("sagan",)
    if "shared.weight" in names:
        choices = ("biggan", "contragan")
    elif not normed and "blocks.0.0.bn1.weight" in names:
        choices = ("sngan",) if any("sngan" in text for text in words) else ("ggan",)
    elif not normed:
        choices = ("acgan", "sngan")
    named = [[name for name in choices if name in text] for text in words]
    first = next((names for names in named if len(names) == 1), choices)
    return Match(tuple(first), network, studiogan)


def _refuse_unsupported(network: Network) -> None:
    """Networks of StudioGAN that are not read, by name: saying so helps more than to know nothing."""
    marks = {
        "blocks.0.0.deconv0.": "the network deep_conv",
        "blocks.0.0.conv2d4.": "the network big_resnet_deep",
        "info_mix_linear": "an InfoGAN",
        "info_proj_linear": "an InfoGAN",
    }
    for mark, what in marks.items():
        if any(name.startswith(mark) for name in network.names):
            hint = "of StudioGAN, the networks resnet and big_resnet are read"
            raise ArtifactError(f"{network.file.path}: {what} of StudioGAN, which is not supported", hint)


def _selfcond(network: Network, words: Words) -> Match | None:
    names = {name.removeprefix("layers.") for name in network.names}
    if not {"resnet_0_0.conv_0.weight", "conv_img.weight", "fc.weight"} <= names or "conv_img.bias" not in names:
        return None
    conditional = "get_latent.embedding.weight" in names
    return Match(("selfcondgan" if conditional else "uncondgan",), network, selfcond)


_LAYOUTS: tuple[Layout, ...] = (_biggan_pytorch, _biggan_deep_hf, _studiogan, _selfcond)
