"""CIFAR-10 (Krizhevsky, 2009) from the official binary archive, or from a folder of JPEG pictures.

`cifar10` is cifar-10-binary.tar.gz (https://www.cs.toronto.edu/~kriz/cifar.html), or the folder cifar-10-batches-bin
inside it: records of one label byte and 3 x 32 x 32 bytes of red, green and blue. The official archive for Python is
pickled and is not read. `cifar10-jpeg` is a folder train|test/<class>/*.jpg, or such a folder in cifar10-jpeg.tar.xz;
decoded images are cached in data/cifar10-jpeg. JPEG costs accuracy: results from it are results on CIFAR-10 (JPEG).
"""

import hashlib
import io
import lzma
import os
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as serialise

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.host.files import write_whole

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SHAPE = (3, 32, 32)
BINARY, ARCHIVE, JPEG_ARCHIVE = "cifar-10-batches-bin", "cifar-10-binary.tar.gz", "cifar10-jpeg.tar.xz"
BATCHES = {"train": [f"data_batch_{i}.bin" for i in range(1, 6)], "test": ["test_batch.bin"]}
CACHE = Path("data/cifar10-jpeg")
ORDER_SEED = 2009


def load_binary(split: str, roots: list[Path]) -> tuple[torch.Tensor, torch.Tensor]:
    """Images, uint8 (N, 3, 32, 32), and labels, int64 (N,), from the first of `roots` with the official archive.

    Raises InputError if none has it or the archive is damaged.
    """
    source = find_binary(split, roots)
    if os.path.isdir(source):
        return parse_records(b"".join((source / name).read_bytes() for name in BATCHES[split]), source)
    found = {Path(name).name: content for name, content in members(source, ".bin")}
    missing = [name for name in BATCHES[split] if name not in found]
    if missing:
        raise InputError(f"{source} has no {', '.join(missing)}; get it again")
    return parse_records(b"".join(found[name] for name in BATCHES[split]), source)


def find_binary(split: str, roots: list[Path]) -> Path:
    """The folder of records, or the official archive, of the first of `roots` that has one; InputError if none has."""
    for root in roots:
        for folder in (root / BINARY, root / "cifar10" / BINARY, root):
            if all(os.path.isfile(folder / name) for name in BATCHES[split]):
                return folder
        for archive in (root / ARCHIVE, root / "cifar10" / ARCHIVE):
            if os.path.isfile(archive):
                return archive
    raise InputError(
        "CIFAR-10 is not here; get https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz and name its folder with "
        "--data or AIRNET_DATA"
    )


def binary_files(roots: list[Path]) -> dict[str, Path]:
    """What `load_binary` reads, by its places in a root."""
    found: dict[str, Path] = {}
    for split, names in BATCHES.items():
        source = find_binary(split, roots)
        found |= {ARCHIVE: source} if source.is_file() else {f"{BINARY}/{name}": source / name for name in names}
    return found


def parse_records(content: bytes, source: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and labels from records of a label byte and 3072 image bytes."""
    size = 1 + int(np.prod(SHAPE))
    if not content or len(content) % size:
        raise InputError(f"{source} is no CIFAR-10: {len(content)} bytes are no records of {size}; get it again")
    records = np.frombuffer(content, np.uint8).reshape(-1, size)
    labels = records[:, 0].astype(np.int64)
    if labels.max() >= len(CLASSES):
        raise InputError(f"{source} is no CIFAR-10: it has a label {labels.max()}; get it again")
    return torch.from_numpy(records[:, 1:].reshape(-1, *SHAPE).copy()), torch.from_numpy(labels)


def load_jpeg(split: str, roots: list[Path]) -> tuple[torch.Tensor, torch.Tensor]:
    """As `load_binary`, from the first of `roots` with pictures in train|test/<class>, in a fixed random order.

    Raises InputError if none has them, or a picture is damaged or of another size.
    """
    return cached(find_jpeg(split, roots), split)


def find_jpeg(split: str, roots: list[Path]) -> Path:
    """The folder of train|test, or the archive of one, of the first of `roots` that has it; InputError if none has."""
    for root in roots:
        for source in (root / "cifar10-jpeg", root, root / JPEG_ARCHIVE):
            if os.path.isfile(source) or all(os.path.isdir(source / split / name) for name in CLASSES):
                return source
    raise InputError(
        "CIFAR-10 (JPEG) is not here; name a folder with train|test/<class>/*.jpg, or with cifar10-jpeg.tar.xz, with "
        "--data or AIRNET_DATA"
    )


def jpeg_files(roots: list[Path]) -> dict[str, Path]:
    """What `load_jpeg` reads, by its places in a root."""
    sources = {split: find_jpeg(split, roots) for split in BATCHES}
    return {
        JPEG_ARCHIVE if source.is_file() else f"cifar10-jpeg/{split}": source if source.is_file() else source / split
        for split, source in sources.items()
    }


def cached(source: Path, split: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The result of `decode` for a folder or archive, from the cache if it matches its source."""
    whole = hashlib.sha256(source.read_bytes() if os.path.isfile(source) else listing(source / split))
    path = CACHE / f"{split}-{whole.hexdigest()[:16]}.safetensors"
    if path.is_file():
        try:
            tensors = load_file(path)
            return tensors["images"], tensors["labels"]
        except (OSError, SafetensorError, KeyError):
            pass  # decode and write it again
    images, labels = decode(source, split)
    try:
        write_whole(path, serialise({"images": images, "labels": labels}))
    except InputError:
        pass  # no place for a cache: decode again next time
    return images, labels


def decode(source: Path, split: str) -> tuple[torch.Tensor, torch.Tensor]:
    """All pictures of a split, sorted by class and name, then shuffled, so that any part has all classes."""
    images, labels = [], []
    for name, content in sorted(members(source, ".jpg") if os.path.isfile(source) else pictures(source / split)):
        *_, found, label, _ = Path("_", "_", name).parts
        if found == split and label in CLASSES:
            images.append(picture(content, f"{source}: {name}"))
            labels.append(CLASSES.index(label))
    if len(set(labels)) != len(CLASSES):
        raise InputError(f"{source} has pictures of {len(set(labels))} classes in {split}, not of 10; get it again")
    order = np.random.default_rng(ORDER_SEED).permutation(len(labels))
    return torch.from_numpy(np.ascontiguousarray(np.stack(images)[order])), torch.tensor(labels)[order]


def picture(content: bytes, name: str) -> np.ndarray:
    """One JPEG picture as uint8 (3, 32, 32)."""
    try:
        with Image.open(io.BytesIO(content), formats=["JPEG"]) as image:
            pixels = np.asarray(image.convert("RGB")) if image.size == SHAPE[:0:-1] else None
    except (OSError, UnidentifiedImageError, SyntaxError) as error:
        raise InputError(f"{name} is no JPEG picture ({error}); get it again") from error
    if pixels is None:
        raise InputError(f"{name} is {image.size[0]} x {image.size[1]} pixels; CIFAR-10 has 32 x 32")
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))  # (H, W, C) to (C, H, W)


def members(archive: Path, suffix: str) -> Iterator[tuple[str, bytes]]:
    """Name and content of the archive's files with this suffix, read without unpacking to disk."""
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                if member.isfile() and member.name.endswith(suffix):
                    yield member.name, tar.extractfile(member).read()
    except (OSError, EOFError, tarfile.TarError, lzma.LZMAError, zlib.error) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"{archive} is no whole archive ({reason}); get it again") from error


def pictures(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Name, split first, and content of the pictures in a folder of classes."""
    for path in folder.glob("*/*.jpg"):
        yield str(path.relative_to(folder.parent)), path.read_bytes()


def listing(folder: Path) -> bytes:
    """Names, sizes and times of the pictures in a folder: the cache's key."""
    stats = [(str(path), path.stat()) for path in sorted(folder.glob("*/*.jpg"))]
    return repr([(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]).encode()
