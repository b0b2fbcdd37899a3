"""The link's weight noise, for training and for tests without a waveform.

A tensor w of mean m and centred power s² is sent with unit power, received at SNR S (per weight, after combining) and
estimated by linear MMSE:

    w_hat = m + g (w - m) + n,   g = S / (1 + S),   Var n = s² S / (1 + S)² = s² g (1 - g),

so E|w_hat - w|² / s² = 1 / (1 + S). Training with a range of S makes a network robust over that range (Joshi et al.,
Nature Communications 11, 2020, for one level). Mean and scale are assumed to arrive without error.
"""

import copy

import torch
from torch import Tensor, nn


def receive_weights(weights: Tensor, snr: float, rng: torch.Generator) -> Tensor:
    """`weights` as received at linear SNR `snr`; infinity returns them unchanged. Complex ones are pairs of weights."""
    if weights.is_complex():
        return torch.view_as_complex(receive_weights(torch.view_as_real(weights.resolve_conj()), snr, rng))
    centre = weights.mean()
    scale = (weights - centre).square().mean().sqrt()
    gain = 1 / (1 + 1 / snr)
    noise = torch.empty_like(weights).normal_(generator=rng)
    return centre + gain * (weights - centre) + scale * (gain * (1 - gain)) ** 0.5 * noise


def receive_tensors(
    tensors: dict[str, Tensor], snr: float | dict[str, float], rng: torch.Generator
) -> dict[str, Tensor]:
    """`receive_weights` for each tensor, at one SNR, or at an SNR per tensor by name."""
    return {
        name: receive_weights(weights, snr[name] if isinstance(snr, dict) else snr, rng)
        for name, weights in tensors.items()
    }


def noisy(module: nn.Module, snr: float | dict[str, float], rng: torch.Generator) -> nn.Module:
    """A copy of `module` with its parameters as received."""
    named = module.named_parameters()
    weights: dict[str, Tensor] = {name: each for name, each in named if each.is_floating_point() or each.is_complex()}
    arrived = copied(module)
    with torch.no_grad():
        arrived.load_state_dict(receive_tensors(weights, snr, rng), strict=False)
    return arrived


def copied(module: nn.Module) -> nn.Module:
    """A deep copy, also of a module that keeps tensors that were computed, as weight normalisation does."""
    kept = [value for layer in module.modules() for value in vars(layer).values() if isinstance(value, Tensor)]
    return copy.deepcopy(module, {id(each): each.detach().clone() for each in kept if not each.is_leaf})


def energies(numels: dict[str, int], exponent: float) -> dict[str, float]:
    """Energy per weight by tensor, proportional to n^-exponent, of mean 1 over all weights: unequal error protection.

    Exponent 1/2 is optimal if every tensor does the same damage a/(e S) at energy e: it minimises the sum of a/e_l
    subject to constant sum n_l e_l. It is close to the plan of `dsp.uep` and needs no measured damages.
    """
    shares = {name: max(numel, 1) ** -exponent for name, numel in numels.items()}
    factor = sum(numels.values()) / sum(numels[name] * share for name, share in shares.items())
    return {name: factor * share for name, share in shares.items()}


def straight_through(weights: Tensor, noisy: Tensor) -> Tensor:
    """The value of `noisy` with the gradient of `weights`."""
    return weights + (noisy - weights).detach()
