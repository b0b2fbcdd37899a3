"""Analog payloads: what is decoded of many copies, and of little."""

import numpy as np
import pytest

from airnet_sdr.dsp import symbols
from airnet_sdr.dsp.errors import NothingReceivedError
from airnet_sdr.dsp.expansion import posterior_mean
from airnet_sdr.dsp.units import linear
from airnet_sdr.models.curves import expansion_curves
from airnet_sdr.models.payload import AnalogPayload
from airnet_sdr.models.payload.analog import CHUNK_SYMBOLS
from airnet_sdr.models.payload.tensors import TensorPlan

HELIX = next(curve for curve in expansion_curves() if curve.dims == 3)


class Claimed:
    """Noise for any number of symbols; keeps what is asked for."""

    run = map

    def __init__(self, symbols_received=1 << 20, capacity=1 << 30):
        self.symbols_received, self.capacity, self.asked = symbols_received, capacity, []
        rng = np.random.default_rng(1)
        self.noise = rng.standard_normal((1 << 16, 2), np.float32).view(np.complex64)[:, 0]
        self.snr = rng.uniform(0, 3, 1 << 16).astype(np.float32)

    def soft(self, start, num):
        self.asked.append(num)
        places = np.arange(start, start + num) % self.noise.size
        return self.noise[places], self.snr[places]


@pytest.mark.parametrize("copies, curve", [(255, None), (2, None), (40, HELIX), (1, HELIX)])
def test_copies_are_combined_in_parts_to_the_same_weights(copies, curve):
    """Bit for bit those of all at once, and the same expected error."""
    plan, received, numel = TensorPlan(0.5, 2.0, copies, 1.75, curve=curve), Claimed(), 9001
    weights = AnalogPayload((plan,)).decode(received, [numel])
    assert max(received.asked) <= CHUNK_SYMBOLS
    soft = received.soft(0, plan.num_symbols(numel))
    soft = symbols.combine(*soft, copies, linear(plan.power_db))
    estimate, nmse = symbols.linear_mmse(*soft) if curve is None else posterior_mean(*soft, curve, plan.density)
    assert np.array_equal(weights.vectors[0], symbols.to_weights(estimate, numel, plan.mean, plan.scale))
    assert weights.expected_nmse == [nmse]


def test_a_network_of_which_hardly_anything_came_is_none():
    """An eighth of what its weights need once is enough, of however many copies."""
    plan, numel = TensorPlan(0.0, 1.0, 100, 0.0), 16_000
    payload, few = AnalogPayload((plan,)), Claimed(999, 1 << 20)
    with pytest.raises(NothingReceivedError, match="8000 symbols, 999 came"):
        payload.decode(few, [numel])
    assert not few.asked
    assert payload.decode(Claimed(1000, 1 << 20), [numel]).vectors[0].size == numel
