"""A plan executed by torchvision's transforms v2, image by image: what the loaders are held against beside NumPy."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from fastcifar.data.dataset import Dataset
from fastcifar.data.plan import IMAGE_SIZE, EpochPlan
from fastcifar.recipe import Augmentation


class TorchvisionLoader:
    """See `fastcifar.data.loader.Loader`."""

    def __init__(self, dataset: Dataset, augmentation: Augmentation, *, batch_size: int) -> None:
        self._images = torch.from_numpy(dataset.train_images).permute(0, 3, 1, 2)
        self._labels = torch.from_numpy(dataset.train_labels)
        self._augmentation, self._batch_size = augmentation, batch_size
        self._mean, self._std = [value / 255 for value in dataset.mean], [value / 255 for value in dataset.std]

    def batches(self, plan: EpochPlan) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images (B, 3, 32, 32) float32 channels_last and labels (B,) int64."""
        for part in plan.batches(self._batch_size):
            images = torch.stack([self._image(part, k) for k in range(len(part))])
            yield images.to(memory_format=torch.channels_last), self._labels[torch.from_numpy(part.indices)]

    def _image(self, plan: EpochPlan, k: int) -> Tensor:
        pad, size = self._augmentation.pad, self._augmentation.cutout
        image = self._images[plan.indices[k]]
        if pad:
            mode = "constant" if self._augmentation.pad_mode == "zero" else "reflect"
            image = F.pad(image, [pad], padding_mode=mode)
            image = F.crop(image, *plan.crop[k].tolist(), IMAGE_SIZE, IMAGE_SIZE)
        if plan.flip[k]:
            image = F.horizontal_flip(image)
        image = F.normalize(F.to_dtype(image, torch.float32, scale=True), self._mean, self._std)
        image = (image + plan.jitter[k, 0].item()) * plan.jitter[k, 1].item()
        if size:
            image = F.erase(image, *plan.cutout[k].tolist(), size, size, torch.zeros(()), inplace=True)
        return image
