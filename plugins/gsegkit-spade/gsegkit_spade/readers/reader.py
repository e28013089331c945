"""The checkpoint readers `spade` and `oasis`."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

from gsegkit_foreign import Network, networks, opened, source_of, taken_note
from torch import Tensor

from gsegkit.checkpoints import Checkpoint, CheckpointFile
from gsegkit.errors import ArtifactError, GsegkitError
from gsegkit.interfaces import CheckpointReader
from gsegkit_spade.config import OasisReaderConfig, SpadeReaderConfig
from gsegkit_spade.readers.said import class_names, said_beside, size_of
from gsegkit_spade.readers.tensors import HINT, checked, converted, told

LAST = "conv_img.weight"
DOUBLINGS = {"normal": 5, "more": 6, "most": 7}
ADE20K = 151  # channels
ALL_CLASSES = "every channel of the mask was taken for a class; if one is of unknown pixels, say -o reader.unknown=last"
NO_EDGES = "no channel was taken for one of edges; if it was trained with instance maps, say -o reader.edges=true"
RAW_LABELS = (
    "weights that SPADE's authors trained on ADE20K expect raw labels (0 = unknown, 1 .. 150): for those, say "
    "-o reader.unknown=first"
)


class _PainterReader(CheckpointReader):
    """What the two share.

    Attributes:
        marker: a tensor that only this layout has.
        layout: its name.
        usual_licence: what is known of the weights of its authors.
    """

    kind = "painter"
    marker: str
    layout: str
    usual_licence: str
    config: SpadeReaderConfig | OasisReaderConfig

    @abstractmethod
    def convert(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors under our names."""

    @abstractmethod
    def fields(self, state: Mapping[str, Tensor], said: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """Fields of `SpatialArch` by tensors and by what opt.txt and options have `said`; notes on what was assumed."""

    def sniff(self, file: CheckpointFile) -> bool:
        """See `CheckpointReader.sniff`."""
        return bool(self._known(file))

    def read(self, file: CheckpointFile) -> Checkpoint:
        """See `CheckpointReader.read`."""
        known = self._known(file)
        try:
            state = self.convert(known[0].tensors)
            said = said_beside(file.path)
            given = {name: value for name, value in self.config.model_dump().items() if value is not None}
            fields, notes = self.fields(state, {**said, **given})
            arch = checked(state, fields)
            classes = class_names(self.config.classes, arch.num_classes)
        except GsegkitError as error:
            where = "" if str(file.path) in error.message else f"{file.path}: "
            raise type(error)(where + error.message, error.hint) from None
        if used := [f"{name} {said[name]}" for name in said]:
            notes.append(f"opt.txt beside it was read: {', '.join(used)}")
        if arch.start == "labels" and not arch.noise:
            notes.append("the network is deterministic: a mask has one picture, whatever the seed")
        licence = self.config.licence or self.usual_licence
        foreign = opened(file)
        return Checkpoint(
            component=self.component,
            layout=self.layout,
            state={f"network.{name}": tensor for name, tensor in state.items()},
            facts={"classes": classes, "arch": arch.model_dump(mode="json"), "licence": licence},
            summary=f"{arch.size[1]} x {arch.size[0]} px, {arch.num_classes} classes",
            notes=(*notes, *taken_note(known[0], known)),
            licence=licence,
            source=source_of(foreign),
            card={"names_not_imported": sorted(foreign.names)},
            kind=self.kind,
        )

    def _known(self, file: CheckpointFile) -> list[Network]:
        return [network for network in networks(file) if {self.marker, LAST} <= network.names]


class SpadeReader(_PainterReader):
    """`net_G.pth` of SPADE (GauGAN), with or without its encoder."""

    config: SpadeReaderConfig
    component = "spade"
    marker = "G_middle_0.norm_0.mlp_shared.0.weight"
    looks_for = f"net_G.pth of SPADE ({marker})"
    layout = "SPADE"
    usual_licence = (
        "CC BY-NC-SA 4.0, not for commercial use, if the weights are of SPADE's authors; else that of their source"
    )

    def convert(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `_PainterReader.convert`."""
        blocks = ["head_0", "G_middle_0", "G_middle_1", "up_0", "up_1", "up_2", "up_3"]
        most = any(name.startswith("up_4.") for name in tensors)
        return converted(tensors, [*blocks, "up_4"] if most else blocks, "param_free_norm")

    def fields(self, state: Mapping[str, Tensor], said: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """See `_PainterReader.fields`."""
        fields = told(state)
        seen, blocks = fields.pop("seen"), len(fields["channels"]) - 1
        layers = _layers(blocks == 8, said.get("num_upsampling_layers"))
        variational = "start.weight" in state
        unknown, edges, notes = self._channels(seen, said)
        fields |= {
            "start": "latent" if variational else "labels",
            "noise": False,
            "latent_dim": int(state["start.weight"].shape[1]) if variational else 1,
            "size": _size(state, fields["channels"][0], DOUBLINGS[layers], said),
            # doubled before all blocks but the first; before the third one only with more layers
            "doubled": (False, True, layers != "normal", *[True] * (blocks - 3)),
            "num_classes": seen - (unknown != "none") - edges,
            "unknown": unknown,
            "edges": edges,
        }
        return fields, notes

    def _channels(self, seen: int, said: Mapping[str, Any]) -> tuple[str, bool, list[str]]:
        """Where the mask has a channel of unknown pixels, whether one of edges; notes on what was assumed."""
        notes, unknown, edges = list[str](), self.config.unknown, self.config.edges
        if unknown is None:
            unknown = "last" if said.get("contain_dontcare_label") else "none"
            if seen == ADE20K:
                notes.append(RAW_LABELS)
            elif "contain_dontcare_label" not in said:
                notes.append(ALL_CLASSES)
        if edges is None:
            edges = not said.get("no_instance", True)
            if "no_instance" not in said:
                notes.append(NO_EDGES)
        if edges:
            notes.append("edges are those of the mask's regions: two things of one class that touch have none between")
        return unknown, edges, notes


class OasisReader(_PainterReader):
    """`EMA.pth` or `G.pth` of OASIS."""

    config: OasisReaderConfig
    component = "oasis"
    marker = "body.0.norm_0.mlp_shared.0.weight"
    looks_for = f"EMA.pth or G.pth of OASIS ({marker})"
    layout = "OASIS"
    usual_licence = "unknown: that of the source applies; OASIS's own code is AGPL-3.0"

    def convert(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `_PainterReader.convert`."""
        count = len({match[1] for name in tensors if (match := re.match(r"body\.(\d{1,2})\.", name))})
        return converted(tensors, [f"body.{index}" for index in range(count)], "first_norm")

    def fields(self, state: Mapping[str, Tensor], said: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """See `_PainterReader.fields`."""
        fields, notes = told(state), list[str]()
        noise, doublings = said.get("noise"), len(fields["channels"]) - 2
        if "crop_size" not in said:
            raise ArtifactError(
                "shapes do not say the size of the pictures of OASIS",
                "say --reader oasis -o reader.crop_size=256, or put its opt.txt beside it",
            )
        if noise is None:
            noise = 0 if said.get("no_3dnoise") else said.get("z_dim")
        if noise is None:
            noise = 64
            notes.append("64 channels were taken for noise, as published; with others, say -o reader.noise=NUMBER")
        unknown = said["unknown"]
        fields |= {
            "start": "labels",
            "noise": noise > 0,
            "latent_dim": max(noise, 1),
            "size": size_of(said["crop_size"], said.get("aspect_ratio", 1), doublings),
            "doubled": (False, *[True] * doublings),
            "num_classes": fields.pop("seen") - noise - (unknown != "none"),
            "unknown": unknown,
        }
        return fields, notes


def _layers(most: bool, said: str | None) -> str:
    """How SPADE was trained: `most` = there is a last block that only "most" has."""
    if said is None and not most:
        raise ArtifactError(
            "shapes do not say whether the network was trained with num_upsampling_layers normal or more",
            "say --reader spade -o reader.num_upsampling_layers=normal, or put its opt.txt beside it",
        )
    if said is not None and most != (said == "most"):
        raise ArtifactError(f"num_upsampling_layers is {said}, but the file {'has' if most else 'lacks'} up_4", HINT)
    return said or "most"


def _size(state: Mapping[str, Tensor], width: int, doublings: int, said: Mapping[str, Any]) -> tuple[int, int]:
    """(height, width) of SPADE's pictures: by the linear layer where there is one, else as `said`."""
    ratio, step = said.get("aspect_ratio", 1), 2**doublings
    if "start.weight" not in state:
        if "crop_size" not in said:
            raise ArtifactError(
                "shapes do not say the size of the pictures of a network without encoder",
                "say --reader spade -o reader.crop_size=256, or put its opt.txt beside it",
            )
        return size_of(said["crop_size"], ratio, doublings)
    places = len(state["start.weight"]) / width  # of the coarsest map
    size = size_of(said.get("crop_size", round((places * ratio) ** 0.5) * step), ratio, doublings)
    if (size[0] // step) * (size[1] // step) != places:
        raise ArtifactError(
            f"pictures of {size[1]} x {size[0]} px do not fit its coarsest map of {places:g} places",
            "say --reader spade -o reader.crop_size=WIDTH -o reader.aspect_ratio=NUMBER (width by height)",
        )
    return size
