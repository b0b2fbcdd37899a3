"""The state beside the weights: its bytes, its symbols, and what predicts batch norm."""

import struct
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from airnet_sdr.dsp import control
from airnet_sdr.dsp.errors import InputError, LinkError, NothingReceivedError
from airnet_sdr.dsp.units import power
from airnet_sdr.models.beside import MAX_CHANNELS, CodedState, State, as_sent
from airnet_sdr.models.digital import compress
from airnet_sdr.models.digital.channel_code import CodedPayload
from airnet_sdr.models.known_state import least_difference
from airnet_sdr.models.noise import noisy
from airnet_sdr.models.payload import DigitalPayload
from airnet_sdr.models.payload.state import MAX_BYTES, StatePayload
from airnet_sdr.models.statistics import (
    MadeUp,
    Statistics,
    channels_of,
    fields,
    leaves,
    load_predicted,
    made_up,
    measure,
    predicted,
)
from airnet_sdr.rx.restore import restore_statistics
from airnet_sdr.tests.link import white

MADE = as_sent(MadeUp((3, 32, 32), True, 120.0, 60.0))


class InNoise:
    """Payload symbols at an SNR."""

    run = map

    def __init__(self, symbols, snr_db, seed=1):
        self.snr = 10 ** (snr_db / 10)
        self.symbols = (symbols + white(symbols.size, 1 / self.snr, seed)) * np.float32(self.snr)
        self.capacity = self.symbols_received = symbols.size

    def soft(self, start, num):
        return self.symbols[start : start + num], np.full(num, self.snr, np.float32)


def random_state(num_channels=100, scale=0.3, made=MADE):
    rng = np.random.default_rng(num_channels)
    return State(rng.bytes(9), (scale * rng.standard_normal((2, num_channels))).astype(np.float32), made)


@pytest.mark.parametrize("step", [0.25, 0.02])
@pytest.mark.parametrize("made", [MADE, replace(MADE, leaves=True), None, as_sent(MadeUp((7,), False, -1.5, 0.25))])
@pytest.mark.parametrize("scale", [0.3, 20.0])
def test_bytes_carry_the_differences_in_steps(step, made, scale):
    state = random_state(scale=scale, made=made)
    back = State.from_bytes(state.to_bytes(step) + b"\0\0")
    assert (back.exact, back.made_up) == (state.exact, made)
    assert np.abs(back.difference - state.difference).max() <= 0.6 * step  # centroids


def test_a_channel_takes_a_few_bits():
    assert len(random_state(284, 0.2).to_bytes(0.25)) < 9 + 30 + 284 * 2 * 2.2 / 8


def test_states_without_statistics_or_integers():
    assert State.from_bytes(State(b"abc").to_bytes(0.1)) == State(b"abc")
    assert State().is_empty and not State(b"a").is_empty


def test_any_bytes_are_a_state_or_a_link_error():
    rng, good = np.random.default_rng(1), random_state(30).to_bytes(0.1)
    for _ in range(3000):
        mutant = bytearray(good[: rng.integers(1, len(good) + 1)])
        for at in rng.integers(0, len(mutant), 2):
            mutant[at] = int(rng.integers(256))
        try:
            state = State.from_bytes(bytes(mutant))
        except LinkError:
            continue
        assert state.difference is None or np.isfinite(state.difference).all()


@pytest.mark.parametrize("plan_snr_db, snr_db", [(-10, -12), (-7, -9), (-5, -6), (0, -4.5), (5, 0), (10, 3), (20, 3)])
@pytest.mark.parametrize("num_channels", [5, 2000])
def test_it_arrives_well_below_the_planned_snr(plan_snr_db, snr_db, num_channels):
    state = random_state(num_channels)
    payload = StatePayload.plan(state, plan_snr_db)
    symbols = payload.encode(state, plan_snr_db)
    assert symbols.size == payload.num_symbols([]) and power(symbols) == pytest.approx(1, abs=0.1)
    assert StatePayload.from_bytes(payload.to_bytes() + b"x") == (payload, b"x")
    back = payload.decode(InNoise(symbols, snr_db))
    assert back.exact == state.exact and np.abs(back.difference - state.difference).max() < 0.3
    with pytest.raises(NothingReceivedError, match="not decoded"):
        payload.decode(InNoise(symbols, -25))
    refined = payload.decode(InNoise(symbols, 60))
    assert np.abs(refined.difference - state.difference).max() < 0.002


def bomb():
    """25 bytes that claim two million numbers twice, each as large as they can be."""
    head = struct.pack(">HbBHB", 32768, 0, 127, 1, 1)
    return b"\0" + b"\x80\x80\x40" + b"\x40" + 2 * head


def test_a_state_of_too_many_channels_is_refused_before_it_is_decoded(monkeypatch):
    """Behind weights, and in a digital payload."""

    def run(*arguments):
        raise AssertionError("decoded")

    monkeypatch.setattr(compress, "_run", run)
    payload = StatePayload(len(bomb()), 6, 2 * MAX_CHANNELS)
    coded = InNoise(control.encode_block(bomb(), payload.block_uses), 20)
    coded.symbols = np.concatenate([coded.symbols, np.zeros(MAX_CHANNELS, np.complex64)])
    weights = compress.encode([compress.Quantised(np.zeros(4, np.int32), 32768, 0)])
    digital = DigitalPayload(CodedPayload(len(bomb() + weights), 900, 2), len(bomb()))
    for state in (payload.decode(coded), digital.unpacked(bomb() + weights, [4]).state):
        with pytest.raises(LinkError, match="1048576 channels were sent, the architecture has 24"):
            restore_statistics(Net(), state)


def test_a_state_of_too_few_bytes_is_a_link_error():
    with pytest.raises(LinkError, match="end within"):
        restore_statistics(Net(), CodedState.from_bytes(bomb()[:1] + bytes([24]) + bomb()[4:]))


def test_too_much_is_an_input_error():
    with pytest.raises(InputError, match=str(MAX_BYTES)):
        StatePayload.plan(State(bytes(MAX_BYTES)), 10)


def images(num, seed):
    """Smooth ones of a positive mean, unlike made-up ones."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(num, 3, 7, 7, generator=generator) ** 3
    return (255 * nn.functional.interpolate(coarse, size=(16, 16), mode="bicubic").clamp(0, 1)).to(torch.uint8)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3), nn.BatchNorm2d(16)
        )

    def forward(self, x):
        return self.layers(x / 255)


def test_made_up_inputs_follow_what_noise_does():
    """A sixth of the error of the statistics without noise, in the mean over channels and draws."""
    torch.manual_seed(1)
    module, inputs = Net(), images(500, 1)
    made = made_up(inputs)
    assert made.draw().shape == (250, 3, 16, 16) and torch.equal(made.draw(), made.draw())
    real, difference = measure(module, inputs), None
    difference = real.values - measure(module, made.draw()).values
    weights, errors = {name: w.clone() for name, w in module.named_parameters() if w.ndim > 1}, []
    for seed in range(10):
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, w in module.named_parameters():
                if name in weights:
                    w.copy_(weights[name] + 0.6 * w.std() * torch.randn(w.shape, generator=generator))
        truth = measure(module, images(500, 2)).values
        predicted = difference + measure(module, made.draw()).values
        errors.append([np.square(predicted - truth).mean(), np.square(real.values - truth).mean()])
    with_made_up, without = np.mean(errors, axis=0)
    assert with_made_up < without / 6


@pytest.mark.parametrize("shape", [(3, 32, 32), (2, 200), (2, 12, 10, 14)])
def test_leaves_are_pieces_of_one_colour_on_any_axes(shape):
    drawn = MadeUp(shape, False, 5.0, 2.0, leaves=True).draw(300)
    assert drawn.shape == (300, *shape) and torch.equal(drawn, MadeUp(shape, False, 5.0, 2.0, leaves=True).draw(300))
    assert abs(drawn.mean() - 5) < 0.4 and drawn.std() == pytest.approx(2, rel=0.05)
    first, second = ((drawn[:, i] - 5).flatten() for i in (0, 1))
    assert (first @ second) / (first.norm() * second.norm()) > 0.8  # channels of a leaf are alike
    step = drawn.diff(dim=-1).abs().flatten()
    assert step.median() < 0.6 and step.quantile(0.99) > 3  # flat but for edges


@pytest.mark.parametrize("kind", [fields, leaves])
def test_the_made_up_inputs_most_like_the_data_are_taken(kind):
    torch.manual_seed(1)
    module = Net()
    inputs = (kind(500, (3, 16, 16), np.random.default_rng(5)) * 60 + 120).clamp(0, 255).to(torch.uint8)
    real = measure(module, inputs)
    difference, made = least_difference(module, real, made_up(inputs))
    assert made.leaves == (kind is leaves)
    np.testing.assert_allclose(difference + predicted(module, made), real.values, atol=1e-5)


def test_statistics_are_loaded_as_they_are():
    module = Net()
    values = np.random.default_rng(1).standard_normal((2, 24))
    Statistics(values).load(module)
    np.testing.assert_allclose(Statistics.of(module).values, values, atol=1e-5)
    assert channels_of(module) == [8, 16]
    norm = module.layers[1]
    assert norm.running_var.numpy() + norm.eps == pytest.approx(np.exp(values[0, :8]), rel=1e-5)


@pytest.mark.parametrize(
    "inputs", [torch.zeros(9, 5, dtype=torch.int64), torch.zeros(9), [1, 2], torch.full((4, 3), torch.nan)]
)
def test_inputs_that_cannot_be_made_up(inputs):
    assert made_up(inputs) is None


def test_a_channel_of_next_to_no_variance_survives_noise():
    """A filter near 0 under a mean of 0.2: what noise makes of its variance does not move its mean."""
    torch.manual_seed(1)
    module, inputs = nn.Sequential(nn.Linear(30, 8), nn.BatchNorm1d(8, eps=1e-3)), torch.randn(2000, 30) + 1
    with torch.no_grad():
        module[0].weight[0] *= 1e-3
        module[0].bias.fill_(0.2)
    real = measure(module, inputs)
    assert np.abs(real.values[1]).max() < 10
    difference, made = least_difference(module, real, as_sent(made_up(inputs)))
    arrived = noisy(module, 100.0, torch.Generator().manual_seed(1))
    load_predicted(arrived, difference, made)
    found = arrived[1].running_mean[0].item(), arrived[1].running_var[0].item()
    measure(arrived, inputs)
    assert found == pytest.approx((arrived[1].running_mean[0].item(), arrived[1].running_var[0].item()), abs=0.03)


@pytest.mark.parametrize("snr_db", [0, 40, 60])
def test_symbols_have_unit_power_however_large_a_difference(snr_db):
    """One that steps twice do not reach, among those of input features of other units."""
    state = State(difference=np.array([[7, -21, 0.3, -8], [200, 100, 2, -0.5]], np.float32), made_up=MADE)
    symbols = StatePayload.plan(state, snr_db).encode(state, snr_db)
    assert power(symbols) == pytest.approx(1, abs=0.1) and np.abs(symbols[-4:]).max() < 2
