"""A loss's Hessian times vectors: v' H v of random signs v has the trace as its mean (Hutchinson, 1989)."""

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

STEP = 1e-3  # of the weights' mean size: for differences of gradients


def curvatures(
    loss: Callable[[], Tensor], weights: dict[str, Tensor], signs: list[dict[str, Tensor]]
) -> Iterator[dict[str, float]]:
    """For each of the signs v, v' H v of each weight, H the Hessian of the loss.

    Where the network has no second derivative, H v is a difference of gradients.
    """
    if not weights:
        yield from ({} for _ in signs)
        return
    values = list(weights.values())

    def gradients(create_graph=False):
        return torch.autograd.grad(loss(), values, create_graph=create_graph, allow_unused=True, materialize_grads=True)

    def step_along(each, factor):
        with torch.no_grad():
            for name, weight in weights.items():
                weight.add_(each[name], alpha=factor)

    def difference(each):
        size = STEP * max(weight.detach().abs().mean().item() for weight in values)
        step_along(each, size)
        above = gradients()
        step_along(each, -2 * size)
        below = gradients()
        step_along(each, size)
        return [(a - b) / (2 * size) for a, b in zip(above, below, strict=True)]

    first = None
    with contextlib.suppress(RuntimeError):  # no second derivative
        first = gradients(create_graph=True)
    for v in signs:
        products = None
        if first is not None:
            try:
                products = torch.autograd.grad(first, values, list(v.values()), True, allow_unused=True)
            except RuntimeError:
                first = None
        if products is None:
            products = difference(v)
        named = zip(weights, products, strict=True)
        yield {name: 0.0 if each is None else float((v[name].conj() * each).sum().real) for name, each in named}
