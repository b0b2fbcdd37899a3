"""What a receiver answers from the parts that arrived: the best network's output, or two networks' logits averaged.

The rule is chosen on validation images, for each set of parts that may arrive and each SNR met; digital and analog
parts are averaged alike. A mean counts only if it is better than the best network by `DOUBT` standard errors, as some
of many means are better by chance.
"""

import dataclasses
import itertools
from collections.abc import Callable

import numpy as np

from airnet_sdr.dsp.units import db, linear
from airnet_sdr.sim.experiments.broadcast.laws import CHANCE, SNR_DB
from airnet_sdr.sim.experiments.broadcast.outputs import OFFSETS_DB, Analog, Outputs, Part
from airnet_sdr.sim.experiments.library.white_noise import ADDED_NOISE, ESTIMATE_ERROR

DOUBT = 2.0  # standard errors


@dataclasses.dataclass(frozen=True)
class Place:
    """Where an analog part is met: its power per symbol, that of the layers subtracted above it, and the receiver's SNR
    from which on its state, or a hybrid's base, arrives."""

    power: float
    above: float = 0.0
    least_db: float = -np.inf

    def met_db(self, snr_db: np.ndarray) -> np.ndarray:
        """The SNR at which symbols of unit power would be as noisy as those of the part at the receiver's SNR S.

        With the errors a, b of channel estimate and noise, as in `sim.experiments.library.white_noise`, and powers p of
        the part and q above it, the noise relative to the signal is

            ((1 + b/S + a (p + q))/S) / p = (1 + a + b/s)/s,

        of which s is the result.
        """
        snr, both = linear(snr_db), 1 + ESTIMATE_ERROR
        noise = (1 + ADDED_NOISE / snr + ESTIMATE_ERROR * (self.power + self.above)) / (self.power * snr)
        return db((both + np.sqrt(both**2 + 4 * ADDED_NOISE * noise)) / (2 * noise))


@dataclasses.dataclass(frozen=True)
class Answer:
    """The part whose network answers, or whose logits have this number of `WEIGHTS` in the mean with a second one's."""

    first: Part
    second: Part | None = None
    weight: int = 0

    def accuracies(self, outputs: Outputs) -> np.ndarray:
        """Accuracies in percent at each SNR met, or one."""
        if self.second is None:
            return outputs.accuracies(self.first)
        return outputs.averaged(self.first, self.second)[0][self.weight]


Rule = tuple[Answer, ...]  # for each SNR met by the analog part that arrived, or one without such a part


def best_rule(outputs: Outputs, arrived: tuple[Part, ...], averages: bool = True) -> Rule:
    """The best answers from the parts that arrived."""
    num = OFFSETS_DB.size if any(isinstance(part, Analog) for part in arrived) else 1
    answers = [Answer(part) for part in arrived]
    values = [np.broadcast_to(answer.accuracies(outputs), num) for answer in answers]
    best = np.max(values, axis=0)
    for first, second in itertools.combinations(arrived if averages else (), 2):
        for weight, (found, error) in enumerate(zip(*outputs.averaged(first, second), strict=True)):
            answers.append(Answer(first, second, weight))
            values.append(np.where(found > best + DOUBT * error, found, 0.0))
    return tuple(answers[k] for k in np.argmax(values, axis=0))


def answered_curve(
    outputs: Outputs, arrived: tuple[Part, ...], rule_of: Callable[[tuple[Part, ...]], Rule], place: Place | None
) -> np.ndarray:
    """Accuracy over `SNR_DB` of what arrived, answered by the rule for it; ``place`` is that of the analog part."""
    if not arrived:
        return np.full(SNR_DB.size, CHANCE)
    rule = rule_of(arrived)
    each = [np.broadcast_to(answer.accuracies(outputs), len(rule))[i] for i, answer in enumerate(rule)]
    analog = next((part for part in arrived if isinstance(part, Analog)), None)
    if analog is None:
        return np.full(SNR_DB.size, each[0])
    others = tuple(part for part in arrived if part != analog)
    without = answered_curve(outputs, others, rule_of, None)[0]
    curve = np.interp(place.met_db(SNR_DB), [analog.met_db[0] - 5, *analog.met_db], [without, *each])
    return np.where(SNR_DB < place.least_db, without, curve)
