"""Architecture families of torchvision and timm, as networks of one's own.

    python tx/send.py --architecture models/examples/families.py:torchvision_resnet18 --model resnet18.safetensors …

`NAME()` makes the network of that name in `TORCHVISION` or `TIMM`, with random weights and ten classes. Their task is
made up, small pictures of random blobs with random labels, as it is here to show that a network arrives as it was sent:
what it makes of its inputs must not change. `models/importing.py timm:NAME` brings trained weights. torchvision's
MNASNet is not here: it takes no state dict but torch's own pickles.
"""

import functools

import torch
from torch import Tensor, nn

from airnet_sdr.models.foreign import declare_torchvision_operators, import_timm

NUM_CLASSES = 10
TORCHVISION = (
    "resnet18", "mobilenet_v3_small", "efficientnet_b0", "convnext_tiny", "swin_t", "densenet121", "shufflenet_v2_x0_5",
    "squeezenet1_1", "regnet_y_400mf", "googlenet", "maxvit_t", "vit_b_16",
)  # fmt: skip
TIMM = (
    "test_resnet", "test_efficientnet", "test_vit", "test_convnext", "test_mambaout", "test_nfnet", "test_byobnet",
    "mobilenetv4_conv_small", "mixer_s16_224",
)  # fmt: skip
SIZES = {"train": 32, "test": 50}


def __getattr__(name: str):
    """The function that makes the network of that name."""
    library, _, network = name.partition("_")
    if library == "torchvision" and network in TORCHVISION:
        return functools.partial(torchvision_network, network)
    if library == "timm" and network in TIMM:
        return functools.partial(timm_network, network)
    raise AttributeError(f"no network {name!r}; there are torchvision_NAME and timm_NAME, see TORCHVISION and TIMM")


def torchvision_network(name: str) -> nn.Module:
    """A network of torchvision with random weights."""
    declare_torchvision_operators()
    import torchvision

    return torchvision.models.get_model(name, weights=None, num_classes=NUM_CLASSES)


def timm_network(name: str) -> nn.Module:
    """A network of timm with random weights."""
    return import_timm().create_model(name, pretrained=False, num_classes=NUM_CLASSES)


def load_data(split: str, data_dir=None) -> tuple[Tensor, Tensor]:
    """Pictures of blobs, float32 (N, 3, 224, 224), and labels, int64 (N,)."""
    rng = torch.Generator().manual_seed(list(SIZES).index(split))
    coarse = torch.randn(SIZES[split], 3, 7, 7, generator=rng)
    pictures = nn.functional.interpolate(coarse, size=224, mode="bicubic")
    return pictures, torch.randint(NUM_CLASSES, (SIZES[split],), generator=rng)
