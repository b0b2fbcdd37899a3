"""Data sets as uint8 tensors: found on disk, or downloaded and checked against their checksums.

The search order is `data_dir`, `$AIRNET_DATA`, the shipped files, Debian's /usr/share/datasets and ./data.
Fashion-MNIST (Xiao, Rasul and Vollgraf, 2017; MIT), whose test images are shipped, is otherwise downloaded from its
public address to ./data. For CIFAR-10 see `models.cifar`.
"""

import gzip
import hashlib
import os
import struct
import urllib.request
import zlib
from pathlib import Path

import numpy as np
import torch

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.host.files import write_whole
from airnet_sdr.models import cifar

FASHION_MNIST_URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
FASHION_MNIST_SHA256 = {  # of the unpacked files, whatever packed them
    "train-images-idx3-ubyte.gz": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte.gz": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte.gz": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte.gz": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
NUM_CLASSES = 10  # of Fashion-MNIST
SHIPPED = Path(__file__).parent / "datasets"


def load(dataset: str, split: str, data_dir=None) -> tuple[torch.Tensor, torch.Tensor]:
    """The images, uint8 (N, C, H, W), and labels, int64 (N,), of a `split`, "train" or "test".

    Raises InputError if the data set is unknown, damaged or unavailable.
    """
    if dataset not in LOADERS:
        raise InputError(f"no data set called {dataset!r}; give one of {', '.join(sorted(LOADERS))}")
    if split not in ("train", "test"):
        raise InputError(f"no split called {split!r}; give train or test")
    return LOADERS[dataset](split, data_dir)


def load_fashion_mnist(split: str, data_dir=None) -> tuple[torch.Tensor, torch.Tensor]:
    """60,000 training or 10,000 test images (N, 1, 28, 28) of ten classes."""
    prefix = {"train": "train", "test": "t10k"}[split]
    images = read_idx(find_fashion_mnist(f"{prefix}-images-idx3-ubyte.gz", data_dir))
    labels = read_idx(find_fashion_mnist(f"{prefix}-labels-idx1-ubyte.gz", data_dir))
    if images.shape != (len(labels), 28, 28) or labels.ndim != 1 or not len(labels):
        raise InputError(
            f"Fashion-MNIST {split} files disagree: images {images.shape}, labels {labels.shape}; get them again"
        )
    if labels.max() >= NUM_CLASSES:
        raise InputError(
            f"Fashion-MNIST {split} has a label {labels.max()}, {NUM_CLASSES - 1} is the last; get it again"
        )
    return torch.from_numpy(images)[:, None], torch.from_numpy(labels.astype(np.int64))


LOADERS = {
    "fashion-mnist": load_fashion_mnist,
    "cifar10": lambda split, data_dir: cifar.load_binary(split, places(data_dir)),
    "cifar10-jpeg": lambda split, data_dir: cifar.load_jpeg(split, places(data_dir)),
}


def places(data_dir=None) -> list[Path]:
    """The folders searched for data sets, in order."""
    named = [Path(root) for root in (data_dir, os.environ.get("AIRNET_DATA")) if root]
    return [*named, SHIPPED, Path("/usr/share/datasets"), Path("data")]


def files_of(dataset: str, data_dir=None) -> dict[str, Path]:
    """The files and folders of a shipped data set, by their places in a folder that `load` takes; of a data set of
    one's own all of ``data_dir``, if there is one.

    Raises InputError if the data set is unavailable.
    """
    if dataset == "fashion-mnist":
        return {f"{dataset}/{name}": find_fashion_mnist(name, data_dir) for name in FASHION_MNIST_SHA256}
    if dataset == "cifar10":
        return cifar.binary_files(places(data_dir))
    if dataset == "cifar10-jpeg":
        return cifar.jpeg_files(places(data_dir))
    return {} if data_dir is None else {"": Path(data_dir)}


def find_fashion_mnist(name: str, data_dir=None) -> Path:
    """The first copy of the file in `places`; downloads it if there is none."""
    for root in places(data_dir):
        for path in (root / "fashion-mnist" / name, root / name):
            if os.path.isfile(path):
                return path
    return download(FASHION_MNIST_URL + name, Path("data/fashion-mnist") / name, FASHION_MNIST_SHA256[name])


def download(url: str, path: Path, sha256: str) -> Path:
    """Download a gzipped file from `url` to `path`; it is written whole, and only if its content has the checksum."""
    try:
        with urllib.request.urlopen(url, timeout=30) as response:
            content = response.read()
        checksum = hashlib.sha256(gzip.decompress(content)).hexdigest()
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(
            f"{path.name} is not here and {url} cannot be had ({error}); install Debian's dataset-fashion-mnist, "
            "or name the data's folder with --data or AIRNET_DATA"
        ) from error
    if checksum != sha256:
        raise InputError(f"the download of {url} has the wrong checksum; get it by hand into {path.parent}")
    write_whole(path, content)
    return path


def read_idx(path: Path) -> np.ndarray:
    """A gzipped IDX file of bytes: 0, 0, 8, number of dimensions, each dimension as big-endian uint32, the bytes."""
    try:
        content = gzip.decompress(path.read_bytes())
        num_dims = content[3]
        shape = struct.unpack_from(f">{num_dims}I", content, 4)
        if content[:3] != b"\0\0\x08":
            raise ValueError("its first bytes are not those of an IDX file of bytes")
        return np.frombuffer(bytearray(content), np.uint8, offset=4 + 4 * num_dims).reshape(shape)
    except (OSError, EOFError, ValueError, IndexError, struct.error, zlib.error) as error:
        raise InputError(f"{path} is no gzipped IDX file ({error}); get it again") from error
