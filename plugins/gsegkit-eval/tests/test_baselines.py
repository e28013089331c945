import numpy as np
import torch

from gsegkit.training import otsu_foreground


def test_otsu_is_the_threshold_of_greatest_variance_between():
    generator = torch.Generator().manual_seed(0)
    grey = torch.randint(0, 90, (20, 30), generator=generator)
    grey[5:12, 8:20] += 110
    found = otsu_foreground(grey.to(torch.uint8).expand(3, 20, 30))
    values = grey.numpy().ravel()

    def between(t):
        low, high = values[values <= t], values[values > t]
        return len(low) * len(high) * (low.mean() - high.mean()) ** 2 if len(low) and len(high) else -1

    threshold = max(range(256), key=between)
    assert np.array_equal(found, grey.numpy() > threshold)
    assert np.array_equal(found, otsu_foreground((255 - grey).to(torch.uint8).expand(3, 20, 30)))
    assert not otsu_foreground(torch.full((3, 4, 4), 9, dtype=torch.uint8)).any()
