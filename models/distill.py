"""Distillation: the network to be sent learns the outputs of a larger teacher, which is never sent.

Hinton, Vinyals and Dean, Distilling the knowledge in a neural network, 2015: with teacher's and student's
probabilities p_T and q_T at temperature T,

    loss = (1 - a) CE(labels, q_1) + a T² KL(p_T || q_T).

The teacher's logits, the mean over each training image and its mirror image, are computed once and cached in a file
beside the teacher. The student trains with shifted and mirrored images and noise on its weights.
"""

import zlib
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as serialise
from torch import Tensor
from torch.nn import functional as F

from airnet_sdr.dsp.host.files import write_whole
from airnet_sdr.models import checkpoint as checkpoints
from airnet_sdr.models.evaluate import logits


def teacher_logits(teacher, images: Tensor) -> Tensor:
    """The logits (N, num_classes), float16, of the checkpoint `teacher` for uint8 images (N, C, H, W); see above.

    For several teachers, separated by commas, their mean. Raises InputError for an unknown checkpoint.
    """
    several = str(teacher).split(",")
    if len(several) > 1:
        return torch.stack([teacher_logits(each, images).float() for each in several]).mean(0).half()
    path = checkpoints.locate(teacher)
    key = zlib.crc32(images.numpy().tobytes(), zlib.crc32(path.read_bytes()))
    kept = path.with_name(f"answers-{key:08x}.safetensors")
    found = _read(kept)
    if found is None:
        module = checkpoints.load(path).module()
        found = (0.5 * (logits(module, images) + logits(module, images.flip(3)))).half()
        write_whole(kept, serialise({"answers": found}))
    return found


def _read(path: Path) -> Tensor | None:
    """The cached logits; None if the file is missing or damaged."""
    try:
        return load_file(path)["answers"]
    except (OSError, SafetensorError, KeyError):
        return None


def distillation_loss(
    student: Tensor, teacher: Tensor, labels: Tensor, temperature: float, share: float, label_smoothing: float = 0.0
) -> Tensor:
    """The loss above; `student` and `teacher` logits (N, C), `labels` (N,), `share` is a."""
    log_q = F.log_softmax(student / temperature, dim=1)
    log_p = F.log_softmax(teacher.float() / temperature, dim=1)
    divergence = F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)
    hard = F.cross_entropy(student, labels, label_smoothing=label_smoothing)
    return (1 - share) * hard + share * temperature**2 * divergence
