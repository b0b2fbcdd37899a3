"""Distillation: the network to be sent learns the outputs of a larger teacher, which is never sent.

Hinton, Vinyals and Dean, Distilling the knowledge in a neural network, 2015: with teacher's and student's
probabilities p_T and q_T at temperature T,

    loss = (1 - a) CE(labels, q_1) + a T² KL(p_T || q_T).

A network with a loss of its own learns the teacher's outputs themselves, as squared errors over the teacher's variance
(after Ba and Caruana, Do deep nets really need to be deep?, 2014): (1 - a) loss + a MSE / Var.

For the shipped architectures the teacher's logits, the mean over each training image and its mirror image, are
computed once and cached in a file beside the teacher; the student trains with shifted and mirrored images and noise on
its weights. Any other teacher gets the batch that the student gets.
"""

import contextlib
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as serialise
from torch import Tensor, nn
from torch.nn import functional as F

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.host.files import write_whole
from airnet_sdr.models import checkpoint as checkpoints
from airnet_sdr.models.batches import Batch, Examples, tensors_in
from airnet_sdr.models.evaluate import logits
from airnet_sdr.models.register import resolve_architecture
from airnet_sdr.models.task import Task

Answers = Callable[[Tensor, Batch], list[Tensor]]  # of the examples at some indices, in a batch


def answers_of(
    teacher: str, task: Task, examples: Examples, device: torch.device, architecture: str | None = None
) -> Answers:
    """A function from the indices of training examples, and the batch of them, to the teacher's outputs.

    teacher : the checkpoint's name or path, or several with commas, whose outputs are averaged
    architecture : FILE.py:NAME of a teacher of the user's own, where it is another than the student's
    Raises InputError for an unknown checkpoint.
    """
    architecture = resolve_architecture(architecture)
    if not task.is_own:
        images, _ = examples.take(torch.arange(len(examples)))
        table = teacher_logits(teacher, images).to(device)
        return lambda indices, batch: [table[indices]]
    modules = [checkpoints.load_any(each, architecture).module().to(device).eval() for each in str(teacher).split(",")]

    @torch.no_grad()
    def answers(indices, batch):
        several = [outputs_of(module, task, batch)[1] for module in modules]
        return [torch.stack(each).mean(0) for each in zip(*several, strict=True)]

    return answers


def outputs_of(network: nn.Module, task: Task, batch: Batch) -> tuple[object, list[Tensor]]:
    """What `Task.run` returns for a batch, and the network's floating-point outputs on the way."""
    with recorded(network) as outputs:
        result = task.run(network, batch)
    return result, outputs


@contextlib.contextmanager
def recorded(network: nn.Module) -> Iterator[list[Tensor]]:
    """Inside this context the floating-point outputs of the network's calls are added to the list."""
    outputs: list[Tensor] = []

    def record(module, inputs, output):
        parts = output if isinstance(output, (dict, tuple, list)) else getattr(output, "logits", output)
        outputs.extend(each for each in tensors_in(parts) if each.is_floating_point())

    hook = network.register_forward_hook(record)
    try:
        yield outputs
    finally:
        hook.remove()


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
        with contextlib.suppress(InputError):  # beside a teacher in a folder that is only read, none is kept
            write_whole(kept, serialise({"answers": found}))
    return found


def matching_loss(student: list[Tensor], teacher: list[Tensor]) -> Tensor:
    """Mean over the outputs of the squared error over the teacher's variance."""
    pairs = [(x.float(), y.float()) for x, y in zip(student, teacher, strict=True)]
    return torch.stack([(x - y).square().mean() / (y.var() + 1e-12) for x, y in pairs]).mean()


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
