"""The air between virtual boards and its clock, without libiio: what flows when crystals differ and drift."""

import numpy as np
import pytest

from airnet_sdr.dsp.units import db
from airnet_sdr.sim.virtual_pluto import Air, BoardConfig
from airnet_sdr.sim.virtual_pluto.queues import RxClient, TxBuffer

pytestmark = pytest.mark.alone

BLOCK = 1 << 16
PERIOD = 25  # of the tone that is sent


def tuned(configs, rate_hz):
    """An air of boards in lockstep, all tuned alike; the first sends a tone for ever, the second receives."""
    air = Air(configs, loss_db=60)
    for board in air.boards:
        board.fir_config, board.fir, board.loopback = "loaded", True, 0
        board.set_rate(rate_hz)
        for side in ("RX", "TX"):
            board.powerdown[side] = False
            board.set_lo(side, 2_400_000_000)
        board.set_gain_mode("manual")
        board.set_rx_gain(60.0)
        board.set_tx_gain(0, 0.0)
    sender, receiver = air.boards
    words = 8000 * np.exp(2j * np.pi * np.arange(100 * PERIOD) / PERIOD)
    sender.tx = TxBuffer(words.size, True, 1)
    sender.tx.put(np.stack([words.real, words.imag], 1).astype(np.int16))
    receiver.rx_clients.append(RxClient(BLOCK, 4))
    return air


def received(air, num_blocks):
    """Blocks (BLOCK,) complex64 that the second board receives."""
    board = air.boards[1]
    client = board.rx_clients[0]
    with air.changed:
        for _ in range(num_blocks):
            assert air.wait_for_samples(board, client, BLOCK, 60)
            yield client.take(BLOCK).astype(np.float32).view(np.complex64)[:, 0]


def weakest_part(samples, part=64):
    """The least mean power of a part over that of the whole: 0 where zeros were put in."""
    power = np.abs(samples.reshape(-1, part)) ** 2
    return power.mean(axis=1).min() / power.mean()


@pytest.mark.parametrize("ppm", [(500, -500), (-500, 500)])
def test_whoever_has_the_faster_crystal_nothing_is_put_in_or_left_out(ppm):
    """15 million samples at 1000 ppm: 15,000 samples of difference."""
    air = tuned([BoardConfig(ppm=p) for p in ppm], 2_500_000)
    blocks = received(air, 230)
    start = np.concatenate([next(blocks) for _ in range(4)])
    assert np.abs(start[-BLOCK:]).min() > 0  # once the line is full
    assert min(weakest_part(block) for block in blocks) > 0.8
    sent, heard = (board.position for board in air.boards)
    assert heard / sent == pytest.approx((1 + 1e-6 * ppm[1]) / (1 + 1e-6 * ppm[0]), abs=1e-6)


def test_boards_of_different_rates_each_take_their_own_samples():
    """One left as it is powered on, at 30.72 MS/s: time is the same for both."""
    air = tuned([BoardConfig(), BoardConfig()], 2_500_000)
    air.boards[0].set_rate(30_720_000)
    for _ in received(air, 4):
        pass
    first, second = (board.position for board in air.boards)
    assert first / second == pytest.approx(30.72 / 2.5, rel=1e-3)


def carrier_offset_hz(samples, rate_hz):
    """Of the tone in the samples, over where its sender put it; to some 0.1 Hz."""
    lag = samples.size // 2
    tone = samples * np.exp(-2j * np.pi * np.arange(samples.size) / PERIOD)
    coarse = np.angle(np.vdot(tone[:-16], tone[16:])) / 16
    tone *= np.exp(-1j * coarse * np.arange(samples.size))
    fine = np.angle(np.vdot(tone[:lag], tone[-lag:])) / (samples.size - lag)
    return (coarse + fine) * rate_hz / (2 * np.pi)


def test_a_crystal_drifts_as_it_warms_up():
    """2 ppm in the end, 63 % of it after drift_s: on the carrier, and on the sample clock."""
    rate_hz, drift_s = 2_500_000, 2.0
    air = tuned([BoardConfig(ppm=3, drift_ppm=2, drift_s=drift_s), BoardConfig(ppm=1)], rate_hz)
    for block in received(air, round(2.2 * drift_s * rate_hz / BLOCK)):
        seconds = air.seconds - 4 * BLOCK / rate_hz  # of the block that is taken, three are ahead of it
        expected = 1e-6 * (2 + 2 * (1 - np.exp(-seconds / drift_s))) * (2.4e9 + rate_hz / PERIOD)
        if seconds > 0.1:
            assert carrier_offset_hz(block, rate_hz) == pytest.approx(expected, abs=150)
    first, second = air.boards
    mean_ppm = 2 + 2 * (1 - drift_s / air.seconds * (1 - np.exp(-air.seconds / drift_s)))
    assert 1e6 * (first.position / second.position - 1) == pytest.approx(mean_ppm, abs=0.2)


def test_a_transmitter_tuned_with_its_oscillator_off_leaks_its_carrier():
    """As ADI's driver calibrates only with the LO on: 0.1 of full scale at the carrier."""
    air = tuned([BoardConfig(real=True), BoardConfig(real=True)], 2_500_000)
    air.boards[0].tx = None

    def level_db():
        *_, last = received(air, 8)
        return db(np.mean(np.abs(last / 2048) ** 2))

    words = np.zeros((BLOCK, 2), np.int16)
    sender = air.boards[0]
    sender.tx = TxBuffer(BLOCK, True, 1)
    sender.tx.put(words)
    calm = level_db()
    sender.powerdown["TX"] = True
    sender.set_lo("TX", 2_400_000_000)
    sender.powerdown["TX"] = False
    assert level_db() == pytest.approx(7 - 20 - 60 + 60 - 5, abs=0.2) and calm < -35


@pytest.mark.slow
def test_an_hour_between_drifting_crystals():
    """Simulated time at 521 kS/s, the faster crystal at the sender: not a gap, and the counts agree to a sample."""
    rate_hz = 521_000
    configs = [BoardConfig(ppm=23, drift_ppm=2, drift_s=300), BoardConfig(ppm=-21, drift_ppm=-2, drift_s=200)]
    air = tuned(configs, rate_hz)
    blocks = received(air, round(3600 * rate_hz / BLOCK))
    for _ in range(4):
        next(blocks)
    assert min(weakest_part(block) for block in blocks) > 0.5
    assert air.seconds > 3590
    for board in air.boards:
        c = board.config
        mean_ppm = c.ppm + c.drift_ppm * (1 - c.drift_s / air.seconds * (1 - np.exp(-air.seconds / c.drift_s)))
        assert board.position == pytest.approx(rate_hz * air.seconds * (1 + 1e-6 * mean_ppm), abs=2)
