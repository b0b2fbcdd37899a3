"""Which output is the largest, at half the time: bfloat16 decides where it is sure, float32 where it is not.

On the first `NUM_BOTH` examples both are computed. Twice the largest difference bounds by how much bfloat16 moves one
output against another there; where the two largest are apart by less than `MARGIN` times this, float32 computes them
again.
"""

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn

from airnet_sdr.dsp.host.machine import multiplies_bfloat16

NUM_BOTH = 128
MARGIN = 3.0
MOST_UNSURE = 0.4  # share of a batch above which float32 has the rest
LAYERS = {  # and those of this program: each gives the same twice in evaluation mode, and takes bfloat16
    nn.Sequential, nn.Conv2d, nn.Linear, nn.BatchNorm2d, nn.GroupNorm, nn.ReLU, nn.MaxPool2d, nn.AvgPool2d,
    nn.AdaptiveAvgPool2d, nn.Flatten, nn.Dropout, nn.Identity,
}  # fmt: skip
OURS = "airnet_sdr.models."


def can_screen(module: nn.Module) -> bool:
    """Whether bfloat16 is fast on this processor, and the network one of float32 whose layers are all known."""
    return (
        multiplies_bfloat16()
        and all(type(layer) in LAYERS or type(layer).__module__.startswith(OURS) for layer in module.modules())
        and all(weights.dtype == torch.float32 and weights.device.type == "cpu" for weights in module.parameters())
    )


def screened(
    run: Callable[[Tensor], tuple[Tensor, Tensor]], parts: Iterable[Tensor]
) -> Iterator[tuple[Tensor, Tensor]]:
    """What ``run`` returns for each of ``parts``: the outputs (n, num_classes) and labels (n,) of examples at indices
    (n,). The largest entry of each row is that of float32; the others may be those of bfloat16."""
    parts, least = iter(parts), None
    for indices in parts:
        with torch.autocast("cpu", torch.bfloat16):
            output, labels = run(indices)
        output = output.float()
        if least is None:
            exact, _ = run(indices[:NUM_BOTH])
            least = MARGIN * 2 * (exact - output[:NUM_BOTH]).abs().max()
        first, second = output.topk(2, dim=1).values.unbind(1)
        unsure = torch.nonzero(~(first - second > least)).squeeze(1)  # NaN, too
        if len(unsure):
            output[unsure] = run(indices[unsure])[0]
        yield output, labels
        if len(unsure) > MOST_UNSURE * len(indices):
            yield from map(run, parts)
