"""CIFAR-10: the official records and pictures in folders, and damage named in one line."""

import io
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.models import cifar
from airnet_sdr.models.data import load

RECORDS = np.random.default_rng(1).integers(0, 256, (20, 3073), dtype=np.uint8)
RECORDS[:, 0] = np.arange(20) % 10


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Decoded pictures are kept in a folder of the test's own, and no other place has data."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AIRNET_DATA", raising=False)


def save_binary(folder):
    folder.mkdir(parents=True)
    for names in cifar.BATCHES.values():
        for i, name in enumerate(names):
            (folder / name).write_bytes(np.roll(RECORDS, i, axis=0).tobytes())


def test_official_records_in_a_folder_and_in_the_archive(tmp_path):
    save_binary(tmp_path / "a" / cifar.BINARY)
    images, labels = load("cifar10", "test", tmp_path / "a")
    assert images.shape == (20, 3, 32, 32) and images.dtype == torch.uint8
    assert labels.tolist() == RECORDS[:, 0].tolist()
    assert np.array_equal(images.numpy().reshape(20, -1), RECORDS[:, 1:])
    assert len(load("cifar10", "train", tmp_path / "a")[0]) == 100
    (tmp_path / "b").mkdir()
    with tarfile.open(tmp_path / "b" / "cifar-10-binary.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "a" / cifar.BINARY, cifar.BINARY)
    for split in ("train", "test"):
        for one, other in zip(
            load("cifar10", split, tmp_path / "a"), load("cifar10", split, tmp_path / "b"), strict=True
        ):
            assert torch.equal(one, other)


def picture(value, size=(32, 32)):
    content = io.BytesIO()
    Image.new("RGB", size, (value, 0, 255 - value)).save(content, "JPEG", quality=95)
    return content.getvalue()


def save_pictures(folder, num=2):
    for split in ("train", "test"):
        for label, name in enumerate(cifar.CLASSES):
            (folder / split / name).mkdir(parents=True)
            for i in range(num):
                (folder / split / name / f"{i:04}.jpg").write_bytes(picture(20 * label))


def test_pictures_in_a_folder_and_in_an_archive(tmp_path):
    save_pictures(tmp_path / "a")
    images, labels = load("cifar10-jpeg", "test", tmp_path / "a")
    assert images.shape == (20, 3, 32, 32) and labels.bincount().tolist() == [2] * 10
    assert labels.tolist() != sorted(labels.tolist())  # any part has many classes
    red = images[:, 0].double().mean((1, 2))
    assert torch.allclose(red, 20.0 * labels.double(), atol=4)  # JPEG is near
    (tmp_path / "b").mkdir()
    with tarfile.open(tmp_path / "b" / "cifar10-jpeg.tar.xz", "w:xz") as tar:
        for split in ("train", "test"):
            tar.add(tmp_path / "a" / split, split)
    for one, other in zip(load("cifar10-jpeg", "test", tmp_path / "b"), (images, labels), strict=True):
        assert torch.equal(one, other)


def test_what_was_decoded_is_kept_until_its_source_changes(tmp_path, monkeypatch):
    save_pictures(tmp_path)
    first = load("cifar10-jpeg", "train", tmp_path)
    real = cifar.decode
    monkeypatch.setattr(cifar, "decode", None)
    assert torch.equal(load("cifar10-jpeg", "train", tmp_path)[0], first[0])
    monkeypatch.setattr(cifar, "decode", real)
    (tmp_path / "train" / "cat" / "0000.jpg").write_bytes(picture(250))
    assert not torch.equal(load("cifar10-jpeg", "train", tmp_path)[0], first[0])
    (kept,) = [path for path in (tmp_path / cifar.CACHE).iterdir() if path.stat().st_size][:1]
    for path in (tmp_path / cifar.CACHE).iterdir():
        path.write_bytes(kept.read_bytes()[:50])  # damaged: decoded again
    assert len(load("cifar10-jpeg", "train", tmp_path)[0]) == 20


def test_nowhere_to_keep_it_is_no_error(tmp_path):
    save_pictures(tmp_path / "a", num=1)
    (tmp_path / "data").write_text("")
    assert len(load("cifar10-jpeg", "test", tmp_path / "a")[0]) == 10


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def label_10(path):
    path.write_bytes(b"\x0a" + path.read_bytes()[1:])


@pytest.mark.parametrize(
    "damage, word", [(cut, "records"), (label_10, "label 10"), (lambda p: p.write_bytes(b""), "0")]
)
def test_damaged_records_are_refused(tmp_path, damage, word):
    save_binary(tmp_path / cifar.BINARY)
    damage(tmp_path / cifar.BINARY / "test_batch.bin")
    with pytest.raises(InputError, match=word) as caught:
        load("cifar10", "test", tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content, word", [(b"no picture", "no JPEG"), (picture(5)[:-200], "no JPEG"), (picture(5, (32, 33)), "32 x 33")]
)
def test_damaged_pictures_are_refused(tmp_path, content, word):
    save_pictures(tmp_path, num=1)
    (tmp_path / "test" / "frog" / "0000.jpg").write_bytes(content)
    with pytest.raises(InputError, match=word) as caught:
        load("cifar10-jpeg", "test", tmp_path)
    assert "frog" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "dataset, name", [("cifar10", "cifar-10-binary.tar.gz"), ("cifar10-jpeg", "cifar10-jpeg.tar.xz")]
)
def test_a_damaged_archive_is_refused(tmp_path, dataset, name):
    (tmp_path / name).write_bytes(b"no archive")
    with pytest.raises(InputError, match="no whole archive") as caught:
        load(dataset, "test", tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dataset", ["cifar10", "cifar10-jpeg"])
def test_absent_data_say_where_to_get_them(tmp_path, dataset):
    with pytest.raises(InputError, match="--data"):
        load(dataset, "test", tmp_path)
