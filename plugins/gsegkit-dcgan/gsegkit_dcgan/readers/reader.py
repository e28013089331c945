"""The checkpoint reader `dcgan`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import torch
from gsegkit_foreign import ForeignFile, Network, networks, opened, source_of, taken_note
from torch import Tensor

from gsegkit.checkpoints import Checkpoint, CheckpointFile
from gsegkit.errors import ArtifactError
from gsegkit.interfaces import CheckpointReader
from gsegkit.tensors import load_state
from gsegkit_dcgan.config import DCGANConfig
from gsegkit_dcgan.dcgan import DCGAN
from gsegkit_dcgan.readers.layouts import FILES_HINT, Found, layout_of, open_radford, radford_files, read_radford

STATISTICS_SAMPLES = 1024  # latents from which missing running statistics are fixed, once

Layout = Callable[[Mapping[str, Tensor]], Found]


class DCGANReader(CheckpointReader):
    """Small convolutional GANs whose layers are recognised by the names of their tensors."""

    component = "dcgan"
    looks_for = (
        "a torch file with main.0.weight or net.0.weight (PyTorch's tutorial and example), model.0.block.0.weight "
        "(WGAN-GP), generator_deconv.1.0.weight or upsample_and_generate.2.weight, or ten *_gen_params.jl_*.npy"
    )

    def sniff(self, file: CheckpointFile) -> bool:
        """See `CheckpointReader.sniff`."""
        return _is_radford(file) or bool(_known(file))

    def read(self, file: CheckpointFile) -> Checkpoint:
        """See `CheckpointReader.read`."""
        if _is_radford(file):
            files = open_radford(file.path)
            return _checkpoint(read_radford(files), _source_of_folder(file, files), (), {})
        known = _known(file)
        network, layout = known[0]
        try:
            found = layout(network.tensors)
        except ArtifactError as error:
            where = "" if error.message.startswith(str(file.path)) else f"{file.path}: "
            raise ArtifactError(where + error.message, error.hint) from None
        foreign = opened(file)
        notes = taken_note(network, [other for other, _ in known])
        return _checkpoint(found, source_of(foreign), notes, {"names_not_imported": sorted(foreign.names)})


def _is_radford(file: CheckpointFile) -> bool:
    return file.path.is_dir() and bool(radford_files(file.path))


def _known(file: CheckpointFile) -> list[tuple[Network, Layout]]:
    """Networks of a known layout, the one to take first. Discriminators of the same names have other shapes."""
    found: list[tuple[Network, Layout]] = []
    for network in networks(file):
        layout = layout_of(network.names)
        if layout is not None and (network.role != "other" or not found):
            found.append((network, layout))
    return found


def _checkpoint(found: Found, source: Mapping[str, Any], notes: tuple[str, ...], card: Mapping[str, Any]) -> Checkpoint:
    """Build the network once: that its tensors fit is seen here, and missing statistics are fixed."""
    generator = DCGAN(DCGANConfig(weights="none"))
    generator.licence = found.licence
    try:
        generator.set_network(found.arch, empty=True)  # the file's tensors become its own: no copy of a large one
        load_state(generator, dict(found.state), str(source["file"]), assign=True)
    except ArtifactError as error:
        raise ArtifactError(f"{source['file']}: {error.message}", FILES_HINT) from None
    if found.batch_statistics:
        with torch.no_grad():
            generator.__dict__["network"].fix_statistics(generator.latents(torch.arange(STATISTICS_SAMPLES)))
        notes = (*notes, f"the file holds no running statistics: fixed on {STATISTICS_SAMPLES} samples")
    notes = (*found.notes, *notes)
    facts = {"arch": found.arch.model_dump(mode="json"), "licence": found.licence}
    state = generator.state_dict()
    side = generator.info.height
    return Checkpoint(
        "dcgan", found.layout, state, facts, {"weights": "none"}, f"{side} px", notes, found.licence, source, card
    )


def _source_of_folder(file: CheckpointFile, files: list[ForeignFile]) -> dict[str, Any]:
    digest = hashlib.sha256("".join(one.sha256 for one in files).encode()).hexdigest()
    num_bytes = sum(one.num_bytes for one in files)
    return {"file": file.path.name, "sha256": digest, "num_bytes": num_bytes, "container": f"{len(files)} npy files"}
