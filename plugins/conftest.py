"""One thread for the plugins' tests: small tensors are slower on several, and much slower on a busy machine."""

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)
