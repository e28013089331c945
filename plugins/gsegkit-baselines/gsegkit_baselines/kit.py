"""What the conformance kit should know about this plugin's components. Imports no torch."""

from __future__ import annotations

from pathlib import Path

from gsegkit.testing.settings import KitSettings

SIDE = 64  # of photographs whose features are taken

CLUSTERS = KitSettings(options={"k": 4, "pixels": 100})
FEATURES = KitSettings(options={"side": SIDE, "pixels": 60})
FEATURE_CLUSTERS = KitSettings(options={"side": SIDE, "pixels": 60, "k": 4})
CUTS = KitSettings(options={"side": SIDE, "grid": 8})
#: A convolution of 3 x 3 and a sigmoid: foreground where a photograph is bright. tests/test_onnx_mask.py makes it.
ONNX = KitSettings(options={"file": str(Path(__file__).with_name("kit.onnx")), "size": (32, 40)})
