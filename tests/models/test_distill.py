"""Distillation: the loss against its definition, and the teacher asked once."""

import pytest
import torch
from torch.nn import functional as F

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.models import distill
from airnet_sdr.models.checkpoint import Checkpoint, save
from airnet_sdr.models.distill import distillation_loss, teacher_logits
from airnet_sdr.models.evaluate import logits
from airnet_sdr.models.nets import build
from airnet_sdr.models.packing import tensors_of


def test_the_loss_is_its_definition():
    rng = torch.Generator().manual_seed(1)
    student, teacher = torch.randn(2, 6, 10, generator=rng)
    labels = torch.arange(6)
    p, q = (F.softmax(logits / 3, dim=1) for logits in (teacher, student))
    divergence = (p * (p / q).log()).sum(1).mean()
    wanted = 0.3 * F.cross_entropy(student, labels) + 0.7 * 9 * divergence
    assert distillation_loss(student, teacher, labels, 3.0, 0.7).item() == pytest.approx(wanted.item(), rel=1e-5)
    assert distillation_loss(teacher, teacher, labels, 3.0, 1.0).item() == pytest.approx(0, abs=1e-6)


@pytest.fixture
def teacher(tmp_path):
    torch.manual_seed(1)
    save(
        tmp_path / "t.safetensors", Checkpoint("fashion", "fashion-mnist", 0.1, tensors_of(build("fashion", W)), {}, W)
    )
    return tmp_path / "t.safetensors"


W = (4, 5, 6, 7, 8)
IMAGES = torch.randint(0, 256, (20, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def test_answers_are_those_to_both_views_and_kept(teacher, monkeypatch):
    first = teacher_logits(teacher, IMAGES)
    module = distill.checkpoints.load(teacher).module()
    wanted = (logits(module, IMAGES) + logits(module, IMAGES.flip(3))) / 2
    torch.testing.assert_close(first.float(), wanted, atol=2e-3, rtol=2e-3)
    torch.testing.assert_close(teacher_logits(teacher, IMAGES.flip(3)), first, atol=2e-3, rtol=2e-3)

    monkeypatch.setattr(distill, "logits", None)  # nobody is asked again
    assert torch.equal(teacher_logits(teacher, IMAGES), first)


def test_answers_that_are_damaged_or_to_other_images_are_asked_again(teacher):
    first = teacher_logits(teacher, IMAGES)
    (kept,) = teacher.parent.glob("answers-*")
    kept.write_bytes(b"damaged")
    assert torch.equal(teacher_logits(teacher, IMAGES), first)
    assert len(teacher_logits(teacher, IMAGES[:7])) == 7


def test_answers_are_not_kept_where_nothing_can_be_written(teacher):
    first = teacher_logits(teacher, IMAGES)
    (kept,) = teacher.parent.glob("answers-*")
    kept.unlink()
    kept.mkdir()
    assert torch.equal(teacher_logits(teacher, IMAGES), first)


def test_no_teacher_is_named():
    with pytest.raises(InputError, match="nosuch"):
        teacher_logits("nosuch", IMAGES)
