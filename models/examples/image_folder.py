"""Example of ResNet-18 (He, Zhang, Ren and Sun, CVPR 2016) on a folder of pictures, one folder for each class.

    python models/train.py --architecture models/examples/image_folder.py:resnet18 --data FOLDER --out out/resnet18

FOLDER, or the one in AIRNET_DATA, has CIFAR-10 (JPEG) as train/CLASS/*.jpg and test/CLASS/*.jpg, the form in which
torchvision's ImageFolder takes pictures, too. The network is torchvision's, but for its first layer, which suits
small pictures.
"""

import torch
from torch import Tensor, nn

from airnet_sdr.models.data import load
from airnet_sdr.models.foreign import declare_torchvision_operators

NUM_CLASSES = 10
MEAN, DEVIATION = 0.47, 0.25  # of the pictures, all colours together


class Scaled(nn.Module):
    """Pictures of bytes as numbers of zero mean and unit deviation."""

    def forward(self, pictures: Tensor) -> Tensor:
        """Uint8 (N, 3, H, W) to float32."""
        return (pictures.float() / 255 - MEAN) / DEVIATION


def resnet18() -> nn.Module:
    """ResNet-18, 11.2 million weights."""
    declare_torchvision_operators()
    from torchvision.models import resnet18 as torchvision_resnet18

    network = torchvision_resnet18(weights=None, num_classes=NUM_CLASSES)
    network.conv1 = nn.Conv2d(3, 64, 3, stride=2, padding=1, bias=False)
    return nn.Sequential(Scaled(), network)


def load_data(split: str, data_dir=None) -> tuple[Tensor, Tensor]:
    """Pictures, uint8 (N, 3, 32, 32), and their classes, int64 (N,)."""
    return load("cifar10-jpeg", split, data_dir)


def augment(batch, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Half of the pictures mirrored, and each moved by up to four pixels."""
    pictures, labels = batch
    mirrored = torch.rand(len(pictures), generator=rng) < 0.5
    pictures = torch.where(mirrored[:, None, None, None], pictures.flip(3), pictures)
    padded = nn.functional.pad(pictures, (4, 4, 4, 4))
    down, right = torch.randint(9, (2,), generator=rng).tolist()
    return padded[:, :, down : down + 32, right : right + 32], labels
