"""A plan executed in plain NumPy, one image at a time: what every loader is held against; and what to try it on."""

import numpy as np
from hypothesis import strategies as st

from fastcifar.data.dataset import MEAN, STD, Channels
from fastcifar.data.plan import EpochPlan
from fastcifar.recipe import Augmentation

augmentations = st.builds(
    Augmentation,
    pad=st.integers(0, 8),
    pad_mode=st.sampled_from(["zero", "reflect"]),
    flip=st.sampled_from(["none", "random", "alternating"]),
    brightness=st.sampled_from([0.0, 0.14, 2.0]),
    contrast=st.sampled_from([0.0, 0.13, 0.9]),
    cutout=st.integers(0, 32),
)


def numpy_images(
    images: np.ndarray, plan: EpochPlan, augmentation: Augmentation, mean: Channels = MEAN, std: Channels = STD
) -> np.ndarray:
    """Images (n, 32, 32, 3) uint8 to the plan's images (len(plan), 3, 32, 32) float64."""
    pad, size = augmentation.pad, augmentation.cutout
    out = np.empty((len(plan), 3, 32, 32))
    for k in range(len(plan)):
        image = images[plan.indices[k]].astype(np.float64)
        if augmentation.pad_mode == "reflect":
            image = np.pad(image, ((pad, pad), (pad, pad), (0, 0)), mode="reflect")
        else:
            image = np.pad(image, ((pad, pad), (pad, pad), (0, 0)))
        y, x = plan.crop[k]
        image = image[y : y + 32, x : x + 32]
        if plan.flip[k]:
            image = image[:, ::-1]
        image = (image - np.array(mean)) / np.array(std)
        image = (image + plan.jitter[k, 0]) * plan.jitter[k, 1]
        top, left = plan.cutout[k]
        image[top : top + size, left : left + size] = 0
        out[k] = image.transpose(2, 0, 1)
    return out
