"""Data sets: found, checked, and refused with a reason."""

import gzip
import hashlib
import io

import pytest
import torch

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.models import data
from airnet_sdr.models.data import load


def test_shipped_test_images():
    images, labels = load("fashion-mnist", "test")
    assert images.shape == (10_000, 1, 28, 28) and images.dtype == torch.uint8
    assert labels.dtype == torch.int64 and labels.bincount().tolist() == [1000] * 10
    assert images.double().mean().item() / 255 == pytest.approx(0.2868, abs=1e-3)


def test_shipped_files_have_the_known_checksums():
    for name in ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"):
        content = gzip.decompress((data.SHIPPED / "fashion-mnist" / name).read_bytes())
        assert hashlib.sha256(content).hexdigest() == data.FASHION_MNIST_SHA256[name]


def idx(*shape):
    size = torch.Size(shape).numel()
    header = b"\0\0\x08" + bytes([len(shape)]) + b"".join(side.to_bytes(4, "big") for side in shape)
    return gzip.compress(header + bytes(i % 10 for i in range(size)), mtime=0)


def test_a_folder_named_comes_first(tmp_path):
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(idx(3, 28, 28))
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(idx(3))
    images, labels = load("fashion-mnist", "test", tmp_path)
    assert images.shape == (3, 1, 28, 28) and labels.tolist() == [0, 1, 2]
    assert images.flatten()[:12].tolist() == [*range(10), 0, 1]


@pytest.mark.parametrize(
    "content", [b"", b"not gzip", gzip.compress(b"\0\0\x08\x03\0\0", mtime=0), idx(3, 28, 28)[:40]]
)
def test_damaged_files_are_refused(tmp_path, content):
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(content)
    with pytest.raises(InputError, match="t10k-images"):
        load("fashion-mnist", "test", tmp_path)


def test_files_that_disagree_are_refused(tmp_path):
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(idx(3, 28, 28))
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(idx(4))
    with pytest.raises(InputError, match="disagree"):
        load("fashion-mnist", "test", tmp_path)


def test_unknown_names_are_refused():
    with pytest.raises(InputError, match="fashion-mnist"):
        load("imagenet", "test")
    with pytest.raises(InputError, match="train or test"):
        load("fashion-mnist", "validation")


def test_a_download_counts_only_with_its_checksum(tmp_path, monkeypatch):
    content = idx(5)
    monkeypatch.setattr(data.urllib.request, "urlopen", lambda url, timeout: io.BytesIO(content))
    right = hashlib.sha256(gzip.decompress(content)).hexdigest()
    path = data.download("http://example.org/x.gz", tmp_path / "new" / "x.gz", right)
    assert path.read_bytes() == content
    with pytest.raises(InputError, match="checksum"):
        data.download("http://example.org/y.gz", tmp_path / "y.gz", "0" * 64)
    content = b"<html>busy</html>"
    with pytest.raises(InputError, match="cannot be had"):
        data.download("http://example.org/y.gz", tmp_path / "y.gz", right)
    assert sorted(entry.name for entry in tmp_path.rglob("*")) == ["new", "x.gz"]


def test_no_network_is_one_clear_line(tmp_path, monkeypatch):
    def refuse(url, timeout):
        raise OSError("no route to host")

    monkeypatch.setattr(data.urllib.request, "urlopen", refuse)
    with pytest.raises(InputError, match="dataset-fashion-mnist") as caught:
        data.download("http://example.org/x.gz", tmp_path / "x.gz", "")
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())
