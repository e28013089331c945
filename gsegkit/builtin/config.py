"""Options of the toy generator."""

from __future__ import annotations

from pydantic import Field

from gsegkit.config import Config


class ToyConfig(Config):
    """Options of the generator `toy`."""

    size: int = Field(default=64, ge=16, le=1024, description="image height in pixels")
    width: int | None = Field(default=None, ge=16, le=1024, description="image width in pixels; None = the height")
    latent_dim: int = Field(
        default=10, ge=10, le=512, description="size of a latent; numbers after the 10th change the background"
    )
    num_classes: int = Field(
        default=3, ge=0, le=8, description="number of class labels, one shape each; 0 = unconditional"
    )
