"""Evaluation images: test images for results, held-out training images to select networks."""

from torch import Tensor

from airnet_sdr.models.data import load as load_data
from airnet_sdr.models.nets import DATASETS

HOLD_OUT = 2500  # training images on which no network was trained


def load_test_images(arch: str, num: int | None = None, data_dir: str | None = None) -> tuple[Tensor, Tensor]:
    """Images (N, C, H, W) and labels (N,) of the architecture's data set, the first ``num`` of them."""
    images, labels = load_data(DATASETS[arch], "test", data_dir)
    return images[:num], labels[:num]


def load_held_out_images(arch: str, num: int | None = None, data_dir: str | None = None) -> tuple[Tensor, Tensor]:
    """The first ``num`` of the held-out training images, by which networks are selected."""
    images, labels = load_data(DATASETS[arch], "train", data_dir)
    return images[-HOLD_OUT:][:num], labels[-HOLD_OUT:][:num]
