"""Options of the toy generator."""

from __future__ import annotations

from pydantic import Field

from gsegkit.config import Config


class ToyConfig(Config):
    """Options of the generator `toy`."""

    size: int = Field(64, ge=16, le=1024, description="image height in pixels")
    width: int | None = Field(None, ge=16, le=1024, description="image width in pixels; none = the same as the height")
    latent_dim: int = Field(10, ge=10, le=512, description="numbers in a latent; those beyond 10 stir the background")
    num_classes: int = Field(3, ge=0, le=8, description="class labels, one object shape each; 0 = unconditional")
