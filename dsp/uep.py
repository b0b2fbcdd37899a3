"""Layer-wise unequal error protection: importance and a budget of symbols to copies, curves and power.

Layer l has n_l payload symbols. Sent c_l times at power p_l and combined, its symbols arrive at the SNR c_l p_l S =
e_l S, where S is the channel's SNR per payload symbol at unit power. The layer's cost there is its measured damage
D_l, so the plan is

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
   filled again for these copies, every power between MIN_POWER_DB and the plan's `max_power_db`.

With curves (`dsp.expansion`) u_l symbols a pair of weights do more than u_l copies: the layer costs D_l(S_l(u_l, e_l)),
S_l the SNR of equal NMSE after the best curve that fits, or copies of it, or copies alone. Uses then matter by
themselves, not by their energy alone, so besides the copies above a second division of the uses is tried: at unit
power, again by gain a symbol along the convex minorant of D_l over u_l = 1, 2, … The rest of the budget goes to
the single layer that gains most from it, while any gains. Energies are then filled in as in step 1, with what the
layers now cost, and of the two divisions the one of least expected damage is kept. Errors along a curve are few and
large, where noise reaches the next turn, and networks bear them less well than as much Gaussian noise: they count
HANDICAP times. (At -5 dB `fashion` networks of an eighth of the weights lose 1 to 2 points by curves with 0.5 dB less
error, and at 0 dB gain half a point by curves with 2 dB less.)

Small layers take hardly any energy, however well they are protected: the largest power `max_power_db` bounds them, not
the budget. A higher one helps networks that were trained without noise, and harms where little arrives, as the sum of
damages is then far from what the network loses. A sender with data can try several. Above 15 dB a receiver can take the
symbols of a layer for interference (`dsp.interference`).

Powers are last rounded to steps of 0.25 dB, up or down so that the mean is as near 1 as the steps allow and at most
0.05 dB above. Not modelled: that damages of layers hurt together are not quite the sum of damages taken one at a
time.
"""

from dataclasses import dataclass

import numpy as np

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.expansion import Curve
from airnet_sdr.dsp.power_range import MAX_POWER_DB, MIN_POWER_DB, POWER_STEP_DB
from airnet_sdr.dsp.units import db, linear

TOLERANCE_DB = 0.05
NUM_PIECES = 200
MAX_SNR = 1e6  # of weights after decoding
HANDICAP = 1.4  # weight of an error along a curve relative to one of copies


@dataclass(frozen=True)
class Protection:
    """`copies` (L,) int64, at least 1, and `power` (L,) float64, linear, of each layer's symbols, and their curves.

    `curves` (L,) are None for layers sent linearly; empty, all are.
    """

    copies: np.ndarray
    power: np.ndarray
    curves: tuple[Curve | None, ...] = ()

    def __post_init__(self):
        object.__setattr__(self, "curves", self.curves or (None,) * len(self.copies))

    @property
    def uses(self) -> np.ndarray:
        """Symbols that each layer spends on a pair of weights (L,)."""
        return self.copies * np.array([1 if curve is None else curve.dims for curve in self.curves], np.int64)

    def num_sent(self, num_symbols) -> int:
        """Payload symbols on the air in one cycle."""
        return int(np.dot(self.uses, num_symbols))

    def snr(self, snr: float) -> np.ndarray:
        """SNR of each layer's weights (L,), 1/NMSE - 1 after decoding, payload symbols arriving at linear ``snr``."""
        arrived = self.copies * self.power * snr
        nmse = [1 / (1 + s) if curve is None else curve.nmse(s) for s, curve in zip(arrived, self.curves, strict=True)]
        return 1 / np.array(nmse) - 1


def uniform(num_symbols, copies: int = 1, curve: Curve | None = None) -> Protection:
    """Every symbol, or every coordinate of the curve, `copies` times at unit power."""
    num_layers = len(num_symbols)
    return Protection(np.full(num_layers, copies, dtype=np.int64), np.ones(num_layers), (curve,) * num_layers)


def best_curve(uses: int, snr: float, curves: tuple[Curve, ...], handicap: float = 1.0) -> tuple[int, Curve | None]:
    """How to spend ``uses`` symbols a pair, each at linear ``snr``: copies, and the curve that is copied, if any.

    Some uses may be left over. A curve is chosen where its NMSE, ``handicap`` times, is below that of copies.
    """
    fitting = [(handicap * float(c.nmse(uses // c.dims * snr)), uses // c.dims, c) for c in curves if c.dims <= uses]
    nmse, copies, curve = min(fitting, key=lambda each: each[0], default=(1.0, uses, None))
    return (copies, curve) if nmse < 1 / (1 + uses * snr) else (uses, None)


def plan_protection(
    num_symbols,
    damage,
    snr_grid_db,
    snr_db: float,
    budget_symbols: int,
    max_copies: int = 8,
    curves=(),
    max_power_db: float = MAX_POWER_DB,
) -> Protection:
    """The plan of least expected damage at `snr_db` per symbol; layers cost `damage` (L, G) over `snr_grid_db` (G,).

    `num_symbols` (L,) are the payload symbols of one copy; `curves` those that may be used, none for copies alone;
    `max_power_db`, at least 0, the most power of a layer's symbols relative to the mean.
    Raises InputError when the budget does not hold one copy of each.
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
    top, bottom = linear(max_power_db), linear(MIN_POWER_DB)
    one = np.ones(len(num_symbols))
    energy = fill_energies(
        num_symbols, damage, energy_grid, float(budget_symbols), bottom * one, top * max_copies * one
    )
    divisions = [share_copies(num_symbols, energy, budget_symbols, max_copies)]
    channel = Expansion(float(linear(snr_db)), curves)
    if curves:
        divisions.append(share_uses(num_symbols, damage, snr_grid_db, channel, budget_symbols, max_copies))
    plans = []
    for uses in divisions:
        lowest, highest = bottom * uses, top * uses
        grid = np.geomspace(lowest.min(), highest.max(), NUM_PIECES + 1)
        expanded = np.array(
            [channel.damage(layer, u, grid, snr_grid_db) for layer, u in zip(damage, uses, strict=True)]
        )
        energy = fill_energies(num_symbols, expanded, grid, float(uses @ num_symbols), lowest, highest)
        at = [np.interp(np.log(e), np.log(grid), layer) for e, layer in zip(energy, expanded, strict=True)]
        plans.append((sum(at), uses, energy / uses))
    _, uses, power = min(plans, key=lambda plan: plan[0])
    copies, chosen = zip(
        *(best_curve(u, p * channel.snr, curves, HANDICAP) for u, p in zip(uses.tolist(), power, strict=True)),
        strict=True,
    )
    return Protection(np.array(copies, np.int64), quantise_power(power, uses * num_symbols, max_power_db), chosen)


@dataclass(frozen=True)
class Expansion:
    """What uses and energy make of a layer's damage on a channel of linear `snr` per symbol, with these curves."""

    snr: float
    curves: tuple[Curve, ...] = ()

    def arrived(self, uses, energy) -> np.ndarray:
        """SNR of the weights, 1/NMSE - 1, after the best curve for these uses (G,) and energies (G,)."""
        symbol = np.asarray(energy, np.float64) / uses * self.snr
        nmse = 1 / (1 + uses * symbol)
        for curve in self.curves:
            copies = np.floor_divide(uses, curve.dims)
            fits = HANDICAP * curve.nmse(np.maximum(copies, 1) * symbol)
            nmse = np.where(copies > 0, np.minimum(nmse, fits), nmse)
        return np.minimum(1 / nmse - 1, MAX_SNR)

    def damage(self, damage, uses, energy, snr_grid_db) -> np.ndarray:
        """A layer's damage at these uses and energies (G,), interpolated over dB and flat beyond the grid it has."""
        return np.interp(db(np.maximum(self.arrived(uses, energy), 1e-12)), snr_grid_db, damage)


def share_uses(num_symbols, damage, snr_grid_db, channel: Expansion, budget_symbols: int, max_uses: int) -> np.ndarray:
    """Uses (L,) of each layer at unit power: along the convex minorants by gain a symbol, then whatever still fits."""
    possible = np.arange(1, max_uses + 1)
    costs = [np.minimum.accumulate(channel.damage(layer, possible, possible, snr_grid_db)) for layer in damage]
    pieces = []
    for layer, cost in enumerate(costs):
        corner = convex_corners(possible, cost)
        gains = -np.diff(cost[corner]) / np.diff(possible[corner]) / num_symbols[layer]
        pieces += [(gain, layer, possible[end]) for gain, end in zip(gains, corner[1:], strict=True) if gain > 0]
    uses, left = np.ones(len(num_symbols), np.int64), int(budget_symbols - num_symbols.sum())

    def spend(layer, target):
        nonlocal left
        left -= int((target - uses[layer]) * num_symbols[layer])
        uses[layer] = target

    for _, layer, target in sorted(pieces, reverse=True, key=lambda piece: piece[0]):
        if (target - uses[layer]) * num_symbols[layer] <= left:
            spend(layer, target)
    while True:
        best = (0.0, 0, 0)
        for layer, num in enumerate(num_symbols):
            more = np.arange(1, min(max_uses - uses[layer], left // num) + 1)
            if more.size:
                now = uses[layer] - 1
                gains = (costs[layer][now] - costs[layer][now + more]) / (more * num)
                best = max(best, (gains.max(), layer, uses[layer] + more[gains.argmax()]))
        if best[0] <= 0:
            return uses
        spend(*best[1:])


def fill_energies(num_symbols, damage, energy_grid, total: float, lowest, highest) -> np.ndarray:
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
    hull: list[int] = []
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


def quantise_power(power, num_sent, max_power_db: float = MAX_POWER_DB) -> np.ndarray:
    """`power` (L,) in steps of 0.25 dB up to `max_power_db`, its mean over `num_sent` (L,) symbols near 1.

    The mean is at most 0.05 dB over 1.
    """
    wanted, most = db(power) / POWER_STEP_DB, np.floor(max_power_db / POWER_STEP_DB)
    steps, limit = np.minimum(np.round(wanted), most), linear(TOLERANCE_DB) * num_sent.sum()

    def energy(steps):
        return linear(POWER_STEP_DB * steps) @ num_sent

    while energy(steps) > limit:
        steps[np.argmax(steps - wanted)] -= 1
    for layer in np.argsort(steps - wanted):  # those rounded down most are raised first
        raised = steps + (np.arange(len(steps)) == layer)
        if raised[layer] <= most and energy(raised) <= limit:
            steps = raised
    return linear(POWER_STEP_DB * steps)
