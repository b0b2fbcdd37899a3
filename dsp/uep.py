"""Layer-wise unequal error protection: importance and a budget of symbols to copies and power.

Layer l has n_l payload symbols. Sent c_l times at power p_l and combined, its symbols arrive at the SNR c_l p_l S =
e_l S, where S is the channel's SNR per payload symbol at unit power. What the layer costs there is its measured
damage D_l, so the plan is

    minimise  sum_l D_l(e_l S)   subject to   sum_l c_l n_l <= budget,   sum_l c_l n_l p_l = sum_l c_l n_l.

Only the energy e_l = c_l p_l matters to the damage, and all energy together is the number of symbols sent,
so the problem splits in two:

1. Energies. Each D_l, a function of energy, is replaced by its largest non-increasing convex minorant, made of
   straight pieces. At the optimum every layer has the same marginal gain -D_l'(e_l) / n_l = lambda per unit of
   energy spent (Everett, Operations Research 11, 1963). For straight pieces, lowering lambda from infinity is taking
   the pieces in order of gain until the budget is spent: the greedy fill is the Lagrangian solution, exact and with
   no search for lambda.
2. Copies. Each layer gets the whole number of copies nearest e_l, the largest layer first and the smaller ones scaled
   to fill what is then left of the budget: powers stay near 1 and hardly a symbol is wasted. The energies are then
   filled again for these copies, every power within +-9 dB.

Powers are last rounded to steps of 0.25 dB, up or down so that the mean is as near 1 as the steps allow and at most
0.05 dB above. Not modelled: that damages of layers hurt together are not quite the sum of damages taken one at a
time.
"""

from dataclasses import dataclass

import numpy as np

from dsp.errors import InputError
from dsp.units import db, linear

MAX_POWER_DB = 9.0
POWER_STEP_DB = 0.25
TOLERANCE_DB = 0.05
NUM_PIECES = 200


@dataclass(frozen=True)
class Protection:
    """`copies` (L,) int64, at least 1, and `power` (L,) float64, linear, of each layer's symbols."""

    copies: np.ndarray
    power: np.ndarray

    def num_sent(self, num_symbols) -> int:
        """Payload symbols on the air in one cycle."""
        return int(np.dot(self.copies, num_symbols))


def uniform(num_symbols, copies: int = 1) -> Protection:
    """Every symbol `copies` times at unit power."""
    num_layers = len(num_symbols)
    return Protection(np.full(num_layers, copies, dtype=np.int64), np.ones(num_layers))


def plan_protection(
    num_symbols, damage, snr_grid_db, snr_db: float, budget_symbols: int, max_copies: int = 8
) -> Protection:
    """The plan of least expected damage at `snr_db` per symbol; layers cost `damage` (L, G) over `snr_grid_db` (G,).

    `num_symbols` (L,) are the payload symbols of one copy. Raises InputError when the budget does not hold one copy
    of each.
    """
    num_symbols = np.asarray(num_symbols, dtype=np.int64)
    damage = np.asarray(damage, dtype=np.float64)
    energy_grid = linear(np.asarray(snr_grid_db, dtype=np.float64) - snr_db)
    if damage.shape != (len(num_symbols), len(energy_grid)) or np.any(np.diff(energy_grid) <= 0):
        raise InputError(
            f"damage of shape {damage.shape} does not fit {len(num_symbols)} layers on a grid of {len(energy_grid)} "
            "increasing SNRs; measure it on these layers"
        )
    if budget_symbols < num_symbols.sum():
        raise InputError(
            f"a budget of {budget_symbols} payload symbols does not hold one copy of the {num_symbols.sum()} "
            "symbols there are; raise it, or send fewer weights"
        )
    top, bottom = linear(MAX_POWER_DB), linear(-MAX_POWER_DB)
    one = np.ones(len(num_symbols))
    energy = fill(num_symbols, damage, energy_grid, float(budget_symbols), bottom * one, top * max_copies * one)
    copies = share_copies(num_symbols, energy, budget_symbols, max_copies)
    energy = fill(num_symbols, damage, energy_grid, float(copies @ num_symbols), bottom * copies, top * copies)
    return Protection(copies, quantise_power(energy / copies, copies * num_symbols))


def fill(num_symbols, damage, energy_grid, total: float, lowest, highest) -> np.ndarray:
    """Energies (L,) between `lowest` and `highest` (L,) with sum n_l e_l = `total` and least convexified damage."""
    pieces = []  # (gain per unit of total energy, layer, length)
    for layer, curve in enumerate(damage):
        # A curve is interpolated over dB, where it bends less, and flat beyond its grid.
        grid = np.geomspace(lowest[layer], highest[layer], NUM_PIECES + 1)
        values = np.minimum.accumulate(np.interp(np.log(grid), np.log(energy_grid), curve))
        corner = convex_corners(grid, values)
        gains = -np.diff(values[corner]) / np.diff(grid[corner]) / num_symbols[layer]
        pieces += [(gain, layer, length) for gain, length in zip(gains, np.diff(grid[corner]), strict=True)]
    energy = np.array(lowest, dtype=np.float64)
    left = total - energy @ num_symbols
    for gain, layer, length in sorted(pieces, reverse=True):
        if gain <= 0:
            break
        step = min(length, left / num_symbols[layer])
        energy[layer] += step
        left -= step * num_symbols[layer]
    # Energy nobody gains from any more goes to all alike, as far as the limits allow.
    for _ in range(len(energy)):
        room = energy < highest
        if left <= 1e-9 * total or not room.any():
            break
        step = left / (energy @ (num_symbols * room))
        raised = np.where(room, np.minimum(energy * (1 + step), highest), energy)
        left -= (raised - energy) @ num_symbols
        energy = raised
    return energy


def convex_corners(x, y) -> list[int]:
    """Indices of the corners of the lower convex hull of the points (x, y), x increasing (Andrew, 1979)."""
    hull = []
    for i in range(len(x)):
        while len(hull) > 1 and (
            (y[hull[-1]] - y[hull[-2]]) * (x[i] - x[hull[-2]]) >= (y[i] - y[hull[-2]]) * (x[hull[-1]] - x[hull[-2]])
        ):
            hull.pop()
        hull.append(i)
    return hull


def share_copies(num_symbols, energy, budget_symbols: int, max_copies: int) -> np.ndarray:
    """Copies (L,) near `energy` (L,) that spend the budget: largest layers first, as small ones fill what is left."""
    copies = np.ones(len(num_symbols), dtype=np.int64)
    order = np.argsort(-num_symbols, kind="stable")
    left = budget_symbols
    for i, layer in enumerate(order):
        num, smaller = num_symbols[layer], order[i + 1 :]
        wanted = round(energy[layer] * left / (energy[order[i:]] @ num_symbols[order[i:]]))
        least = -((max_copies * num_symbols[smaller].sum() - left) // num)  # the rest could still be spent
        most = (left - num_symbols[smaller].sum()) // num  # the rest still fits once
        copies[layer] = np.clip(wanted, max(least, 1), min(most, max_copies))
        left -= copies[layer] * num
    return copies


def quantise_power(power, num_sent) -> np.ndarray:
    """`power` (L,) in steps of 0.25 dB, its mean over `num_sent` (L,) symbols near 1 and at most 0.05 dB over."""
    wanted = db(power) / POWER_STEP_DB
    steps, limit = np.round(wanted), linear(TOLERANCE_DB) * num_sent.sum()

    def energy(steps):
        return linear(POWER_STEP_DB * steps) @ num_sent

    while energy(steps) > limit:
        steps[np.argmax(steps - wanted)] -= 1
    for layer in np.argsort(steps - wanted):  # those rounded down most are raised first
        raised = steps + (np.arange(len(steps)) == layer)
        if raised[layer] <= MAX_POWER_DB / POWER_STEP_DB and energy(raised) <= limit:
            steps = raised
    return linear(POWER_STEP_DB * steps)
