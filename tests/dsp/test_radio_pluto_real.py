"""What real boards do otherwise, emulated: exclusive, left in any state, silent, with bits and buffers of their own."""

import math
import threading
import time

import numpy as np
import pytest

from airnet_sdr.dsp.errors import InputError, RadioError, RadioTimeoutError
from airnet_sdr.dsp.radio import RadioConfig, open_sink, open_source, parse
from airnet_sdr.dsp.radio.gain import LEVEL_DBFS, occupied_level_db
from airnet_sdr.dsp.radio.pluto import silence
from airnet_sdr.dsp.radio.pluto_check import check
from airnet_sdr.dsp.units import db
from airnet_sdr.sim.virtual_pluto import BoardConfig
from airnet_sdr.sim.virtual_pluto.__main__ import cause
from airnet_sdr.tests.link import white
from airnet_sdr.tests.pluto import becomes_muted, boards, needs_libiio

pytestmark = needs_libiio
PART = 1 << 14
REAL = BoardConfig(real=True)


def config(**fields):
    return RadioConfig(**{"timeout_s": 5.0, "buffer_samples": PART} | fields)


def address(server):
    return f"pluto:{server.uri}"


def one_line(caught):
    return "\n" not in str(caught.value)


# one context


def test_sink_and_source_share_an_exclusive_board():
    """A second context is refused; the source beside the sink needs none, and both see the digital loopback's words."""
    with boards(REAL) as (server,), open_sink(address(server), config(loopback=1)) as sink:
        sink.repeat(white(50_000, 1.0, 1))
        with pytest.raises(RadioError, match="busy.*only one") as caught:
            open_source(address(server), config()).__enter__()
        assert one_line(caught)
        with open_source(address(server), config(), beside=sink) as source:
            samples = np.concatenate([source.read() for _ in range(3)])
        with open_source(address(server), config(), beside=sink) as source:  # again, the sink goes on
            samples = np.concatenate([samples, source.read()])
        assert db(np.mean(np.abs(samples) ** 2)) == pytest.approx(-12, abs=0.2)
        assert server.board.tx is not None
    assert becomes_muted(server)


def test_a_board_is_let_go_when_it_closes():
    """Sink, source and check one after the other, in one process: each needs the only context."""
    with boards(REAL) as (server,):
        for _ in range(2):
            with open_sink(address(server), config()) as sink:
                sink.send(white(5000, 1.0, 1))
            with open_source(address(server), config()) as source:
                source.read()
            assert "simulated" in next(check(parse(address(server)), config()))


def test_a_source_beside_a_sink_of_another_rate_is_refused():
    with boards(REAL) as (server,), open_sink(address(server), config(rate_hz=3e6)) as sink:
        with pytest.raises(RadioError, match="2999997 samples/s.*2500000"):
            open_source(address(server), config(), beside=sink).__enter__()
        assert server.board.rate_hz == 2_999_997


# in order


def leave_behind(server, **state):
    """What another program left."""
    with server.air.changed:
        for name, value in state.items():
            getattr(server.board, name).update(value) if isinstance(value, dict) else setattr(server.board, name, value)


LEFT = [
    {"powerdown": {"RX": True}}, {"loopback": 1}, {"loopback": 2}, {"fpga": {"RX": 8}}, {"fpga": {"TX": 8}},
    {"plain": {"phy ensm_mode": "alert"}}, {"plain": {"RX quadrature_tracking_en": "0"}},
    {"plain": {"RX rf_dc_offset_tracking_en": "0"}}, {"plain": {"RX bb_dc_offset_tracking_en": "0"}},
    {"fir": False}, {"fir_config": "FIR Rx: 128,2 Tx: 128,2"}, {"fir_config": None},
]  # fmt: skip


def in_order(board):
    """What a receiver needs: nothing of this was a program's to leave."""
    left = {value for name, value in board.plain.items() if "ensm" in name or "tracking" in name}
    return (
        not board.powerdown["RX"] and board.loopback == 0 and left <= {"fdd", "1"} and board.fpga == {"RX": 1, "TX": 1}
    )


@pytest.mark.parametrize("state", LEFT)
def test_a_receiver_puts_its_board_in_order(state):
    """The rate is there already; the filter beside it is looked at, too."""
    with boards(0) as (server,):
        with open_source(address(server), config()) as source:
            source.read()
        leave_behind(server, **state)
        with open_source(address(server), config()) as source:
            source.read()
            board = server.board
            assert in_order(board) and board.fir and board.fir_config == "FIR Rx: 128,4 Tx: 128,4"


@pytest.mark.parametrize("state", LEFT[:9])
def test_mute_puts_the_board_in_order(state):
    with boards(0) as (server,):
        silence(parse(address(server)))
        leave_behind(server, **{name: value for name, value in state.items() if name != "fpga"})
        silence(parse(address(server)))
        assert in_order(server.board) or "fpga" in state


@pytest.mark.parametrize("name", ["raw", "hardwaregain", "powerdown"])
def test_mute_reads_back_what_it_wrote(name):
    """A board that says yes and does nothing is not muted, and that is said."""
    with boards(0) as (server,):
        leave_behind(server, powerdown={"TX": False}, deaf={name})
        server.board.dds[0].update(raw=1, scale=0.5)
        with pytest.raises(RadioError, match="could not be muted") as caught:
            silence(parse(address(server)))
        assert one_line(caught) and not server.board.muted


def test_both_transmitters_of_a_pluto_plus_are_muted():
    with boards(BoardConfig(transmitters=2)) as (server,):
        board = server.board
        leave_behind(server, tx_gains_db=[0.0, -3.0])
        for tone in board.dds:
            tone.update(raw=1, scale=0.5)
        silence(parse(address(server)))
        assert board.tx_gains_db == [-89.75, -89.75] and not any(tone["raw"] for tone in board.dds) and board.muted
        leave_behind(server, tx_gains_db=[0.0, -3.0])
        with open_sink(address(server), config(gain_db=-20)) as sink:
            sink.repeat(white(5000, 1.0, 1))
            assert board.tx_gains_db == [-20, -89.75]


# a board that transmits


def test_a_board_that_only_receives_does_not_transmit():
    with boards(0) as (server,):
        leave_behind(server, powerdown={"TX": False}, tx_gains_db=[0.0])
        server.board.dds[0].update(raw=1, scale=0.5)
        with open_source(address(server), config()) as source:
            source.read()
            assert server.board.muted


def test_a_receiver_does_not_move_a_board_that_transmits():
    """Another carrier is the receiver's own; another rate would be the sender's, too."""
    with boards(0) as (server,), open_sink(address(server), config(gain_db=-20)) as sink:
        sink.repeat(white(5000, 1.0, 1))
        board = server.board
        sending = lambda: (board.lo_hz["TX"], board.rate_hz, board.fir, board.tx_gain_db, board.bandwidth_hz["TX"])  # noqa: E731
        before = sending()
        with open_source(address(server), config(freq_hz=2.45e9)) as source:
            source.read()
            assert board.lo_hz["RX"] == 2_450_000_000 and sending() == before
        with pytest.raises(RadioError, match="`rate_hz`.*stop the sender") as caught:
            open_source(address(server), config(rate_hz=4e6)).__enter__()
        leave_behind(server, fir=False)
        with pytest.raises(RadioError, match="filters.*stop the sender"):
            open_source(address(server), config()).__enter__()
        leave_behind(server, fir=True)
        assert one_line(caught) and sending() == before and board.loopback == 0


# calibration and ranges


def test_a_transmitter_is_tuned_with_its_oscillator_on_and_unheard():
    """ADI's driver calibrates on each of these changes, and only then; nothing is radiated meanwhile."""
    with boards(REAL) as (server,):
        board, heard = server.board, []
        calibrate = board._calibrate
        board._calibrate = lambda: (heard.append((board.powerdown["TX"], max(board.tx_gains_db))), calibrate())
        with open_sink(address(server), config(gain_db=-10)) as sink:
            sink.repeat(white(5000, 1.0, 1))
            assert board.tx_calibrated and board.tx_gain_db == -10 and not board.powerdown["TX"]
        assert len(heard) >= 4 and set(heard) == {(False, -89.75)}


def test_a_calibrated_board_does_not_leak_its_carrier():
    """Through the air: what remains at the carrier is 30 dB and more below the signal."""
    with boards(REAL, REAL) as (sender, receiver), open_sink(address(sender), config(gain_db=0)) as sink:
        sink.repeat(white(1 << 16, 1.0, 1))
        with open_source(address(receiver), config(gain_db=60)) as source:
            samples = np.concatenate([source.read() for _ in range(4)])
    assert 20 * np.log10(abs(samples.mean())) < db(np.mean(np.abs(samples) ** 2)) - 25


def test_a_rate_that_reads_some_hz_low_is_the_rate():
    """Set once, 2499997 is read; the next program leaves it alone, since a change interrupts."""
    with boards(REAL) as (server,):
        with open_source(address(server), config()):
            pass
        rates = []
        change = server.board.set_rate
        server.board.set_rate = lambda rate_hz: (rates.append(rate_hz), change(rate_hz))
        with open_source(address(server), config()) as source:
            source.read()
        assert server.board.rate_hz == 2_499_997 and rates == []


def test_the_gain_range_is_the_carriers():
    """An AD936x takes -1 to 73 dB below 1.3 GHz; the board comes from 2.4 GHz, where 71 are the most."""
    with boards(0) as (server,):
        with open_source(address(server), config(gain_db=73, freq_hz=900e6)) as source:
            assert source.read().size and server.board.rx_gain_db == 73
        with pytest.raises(InputError, match="-1 to 73"):
            open_source(address(server), config(gain_db=-2, freq_hz=900e6)).__enter__()


# buffers


def test_a_capture_longer_than_the_board_waits_by_itself():
    """3.4 s at 2.5 MS/s: libiio would wait 5 s, the board half of it."""
    with boards(REAL, realtime=True) as (server,):
        with open_source(address(server), config(capture_samples=1 << 23, timeout_s=2.0)) as source:
            assert source.read().size == 1 << 23 and source.read() is None


@pytest.mark.parametrize("num", [200_001, 200_002, 200_003])
def test_buffers_are_what_the_dma_takes(num):
    """Multiples of 4; who asks for another number gets that number."""
    with boards(REAL) as (server,):
        with open_source(address(server), config(capture_samples=num)) as source:
            assert source.read().size == num
        with open_source(address(server), config(buffer_samples=num)) as source:
            assert source.read().size >= num
        for options in ({}, {"buffer_samples": num}):
            with open_sink(address(server), config(**options)) as sink:
                sink.send(white(num, 1.0, 1))
        with open_sink(address(server), config()) as sink:
            sink.repeat(white(num, 1.0, 1))
            assert server.board.tx.num_samples == num + -num % 4


def test_what_does_not_fit_the_boards_memory_is_one_line():
    with boards(REAL) as (server,):
        with pytest.raises(RadioError, match="no memory.*`buffer_samples`") as caught:
            open_source(address(server), config(buffer_samples=1 << 24)).__enter__()
        assert one_line(caught)


# reasons


def test_reasons_survive(monkeypatch):
    import iio

    with pytest.raises(RadioError, match=r"connection refused.*iio_info -s") as caught:
        open_source("pluto:ip:127.0.0.1:1", config()).__enter__()
    assert one_line(caught)

    def denied(uri):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(iio, "Context", denied)
    with pytest.raises(RadioError, match=r"no permission.*udev") as caught:
        open_source("pluto:usb:1.2.5", config()).__enter__()
    assert one_line(caught)


def test_a_board_that_is_silent_from_the_start_ends_in_time():
    with boards(0) as (server,):
        cause("silent", server, 0)
        started = time.monotonic()
        with pytest.raises(RadioTimeoutError, match="no answer") as caught:
            open_source(address(server), config(timeout_s=3)).__enter__()
        assert one_line(caught) and time.monotonic() - started < 2 * 3


@pytest.mark.parametrize("opened", [open_sink, open_source])
def test_a_board_that_stops_answering_ends_in_time(opened):
    """While it runs, libiio itself would wait for a minute, for each attribute."""
    with boards(0) as (server,):
        with pytest.raises(RadioError, match="ip:127.0.0.1") as caught:
            with opened(address(server), config(timeout_s=3, buffer_samples=1 << 20)) as radio:
                if opened is open_sink:
                    radio.repeat(white(5000, 1.0, 1))
                cause("silent", server, 0)
                started = time.monotonic()
                for _ in range(10):
                    radio.watch(0.1) if opened is open_sink else radio.read(1.0)
        assert one_line(caught) and time.monotonic() - started < 4 * 3


def test_who_waits_for_ever_sends():
    with boards(0) as (server,), open_source(address(server), config(gain_db=60)) as source:
        with open_sink(address(server), config(timeout_s=math.inf)) as sink:
            reader = threading.Thread(target=lambda: [source.read() for _ in range(40)])
            reader.start()
            sink._streaming = True  # as after a long beginning
            sink.send(white(17 * PART, 1.0, 1))
            assert sink.samples == 17 * PART
        reader.join(20)


@pytest.mark.parametrize("attribute", ["sampling_frequency", "hardwaregain_available", "frequency_available"])
@pytest.mark.parametrize("text", ["nan", "", "[]", "unknown"])
def test_an_attribute_that_is_no_number_is_one_line(attribute, text):
    with boards(0) as (server,):
        server.board.answers[attribute] = text or " "
        for opened in (open_sink, open_source):
            with pytest.raises(RadioError) as caught:
                opened(address(server), config()).__enter__()
            assert one_line(caught) and server.uri in str(caught.value)


def test_numbers_in_messages_differ_where_the_numbers_do():
    with boards(0) as (server,):
        with pytest.raises(InputError, match="must be 325000000 to 3800000000 Hz on this board; got 324999999$"):
            open_source(address(server), config(freq_hz=324_999_999, rate_hz=2.5e6)).__enter__()


@pytest.mark.parametrize("iiod", ["0.26", "1.0"])
def test_a_newer_libiio_on_the_board_is_served(iiod):
    """A board's server of libiio 1.x speaks the protocol of 0.x to a client of 0.x, and says who it is."""
    with boards(BoardConfig(iiod=iiod)) as (server,), open_source(address(server), config()) as source:
        assert source.read().size == PART
        assert source.describe()["libraries"]["libiio of the board"] == iiod


# lost samples


def test_bits_that_always_read_1_say_nothing():
    """Firmware 0.39: no overflow and no underflow is claimed, and none is denied."""
    with boards(REAL) as (server,), open_sink(address(server), config()) as sink:
        sink.repeat(white(5000, 1.0, 1))
        sink.watch(0.01)
        with open_source(address(server), config(), beside=sink) as source:
            source.read()
            found = source.describe()
        assert found["overflow"] is None and sink.describe()["underflow"] is None
        assert not any("overflow" in text for text in found["warnings"])


def test_a_fresh_pair_does_not_run_dry():
    """The other board is at 30.72 MS/s, as it is powered on: that is its own time. 1.7 s of samples last longer than
    0.4 s, and did not last 0.14 s."""
    num = 1 << 20
    with boards(0, 0, realtime=True) as (sender, _), open_sink(address(sender), config(buffer_samples=num)) as sink:
        sink.send(white(4 * num + 1, 1.0, 1))  # one more than is held: they stream, and fill the four buffers
        time.sleep(0.4)
        sink.watch(0)
        assert sink.underflow is False and sender.board.lost["TX"] == 0


# gain


@pytest.mark.parametrize("tx_gain_db", [-10, -30])
def test_a_gain_is_found_in_a_band_with_wifi(tx_gain_db):
    """Bursts of 2 ms every 20 ms, 30 to 50 dB above the signal: the gain is that without them, within 2 dB."""
    burst = np.zeros(50_000, np.complex64)
    burst[:5000] = 10 ** (9 / 20) * white(5000, 1.0, 4)
    found = []
    for loud in (False, True):
        with boards(0, 0, 0) as (sender, receiver, network):
            with (
                open_sink(address(sender), config(gain_db=tx_gain_db)) as sink,
                open_sink(address(network), config(gain_db=0)) as other,
            ):
                sink.repeat(white(50_000, 1.0, 1))
                if loud:
                    other.repeat(burst)
                with open_source(address(receiver), config(gain_db="auto")) as source:
                    found.append(source.describe()["gain_db"])
    assert found[1] == pytest.approx(found[0], abs=2)


def test_the_level_is_that_of_what_is_on_the_air_for_long():
    """0.1 of the time at +20 dB, 0.5 at 0 dB, noise at -40 dB."""
    rng = np.random.default_rng(1)
    gate = rng.permutation(np.repeat([10.0, 1.0, 0.01], [100, 500, 400]))
    samples = np.repeat(gate, 2500).astype(np.float32) * white(2_500_000, 1.0, 2)
    assert occupied_level_db(samples, 2.5e6) == pytest.approx(0, abs=0.5)
    assert LEVEL_DBFS < -10
