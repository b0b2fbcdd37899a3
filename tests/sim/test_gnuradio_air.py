"""The air as a GNU Radio flowgraph: each impairment against its definition, the link against our own air, its ends."""

import json
import os
import re
import signal
import threading
import time

import numpy as np
import pytest

from airnet_sdr.dsp.radio import RadioConfig, open_sink, open_source
from airnet_sdr.dsp.radio.scale import NOMINAL_POWER
from airnet_sdr.dsp.units import db, nmse, power
from airnet_sdr.sim import gnuradio_air, loopback
from airnet_sdr.sim.channel import Channel, ChannelConfig, channel_preset
from airnet_sdr.sim.channel.impairments import clip, clock_offset, iq_imbalance, quantise
from airnet_sdr.tests.command import (
    assert_refused,
    finish,
    killed,
    run,
    start,
    wait_for,
    zmq_addresses,
)
from airnet_sdr.tests.flowgraph import PYTHON, needs_gnuradio, numbered

RATE_HZ, FREQ_HZ = RadioConfig.rate_hz, RadioConfig.freq_hz
RAW = RadioConfig(timeout_s=30.0, backoff_db=None)
KEPT = 40  # samples at the end of a recording, by the filters


def signal_like(num, seed=1):
    """A burst's spectrum and power: Gaussian within the occupied band (num,)."""
    rng = np.random.default_rng(seed)
    spectrum = rng.standard_normal((num, 2)).view(np.complex128)[:, 0]
    spectrum[np.abs(np.fft.fftfreq(num)) > 400 / 1024] = 0
    samples = np.fft.ifft(spectrum)
    return (samples * np.sqrt(NOMINAL_POWER / power(samples))).astype(np.complex64)


def through(samples, tmp_path, *options):
    """What GNU Radio makes of samples (n,); ends of some dozen samples are missing."""
    with open_sink(f"file:{tmp_path}/in.sigmf-meta", RAW) as sink:
        sink.send(samples)
    ends = ["--rx", f"file:{tmp_path}/in.sigmf-meta", "--tx", f"file:{tmp_path}/out.sigmf-meta"]
    result = run(gnuradio_air.main, *ends, "--gnuradio-python", PYTHON, *options)
    assert (result.status, result.err) == (0, ""), result
    with open_source(f"file:{tmp_path}/out.sigmf-meta") as source:
        received = np.concatenate(list(source))
    counts = [int(number) for number in re.findall(r"\d+", result.out)]
    assert counts == [samples.size, received.size]
    return received


def differ_db(received, expected):
    """Error of received over expected, dB, where both are there and away from the ends."""
    stop = min(received.size, expected.size) - 100
    return db(nmse(received[100:stop], expected[100:stop]))


# each impairment against its definition


@needs_gnuradio
def test_without_options_sample_n_stays_sample_n(tmp_path):
    """Nothing is lost at the start, and delays are exact."""
    samples = numbered(1, 100_000)
    received = through(samples, tmp_path, "--delay-samples", 1000)
    assert samples.size + 1000 - KEPT <= received.size <= samples.size + 1000
    np.testing.assert_array_equal(received[:1000], 0)
    np.testing.assert_allclose(received[1000:], samples[: received.size - 1000], rtol=1e-6)


@needs_gnuradio
@pytest.mark.parametrize("seed", [1, 4])
def test_noise_has_its_power_and_is_white(tmp_path, seed):
    """Power to 1 % (3 deviations of a million samples are 0.3 %), which GNU Radio's own misses by up to 2 %."""
    received = through(np.zeros(1_000_000, np.complex64), tmp_path, "--snr-db", 10, "--seed", seed)
    wanted = Channel(ChannelConfig(snr_db=10), RATE_HZ, FREQ_HZ, signal_power=NOMINAL_POWER).noise_var
    assert power(received[100:]) == pytest.approx(wanted, rel=0.01)
    spectrum = np.mean(np.abs(np.fft.fft(received[: 512 * 1900].reshape(-1, 512), axis=1)) ** 2, axis=0) / 512
    assert np.ptp(10 * np.log10(spectrum)) < 1.5 and np.abs(np.mean(received)) < 0.02 * np.sqrt(wanted)
    kept = np.abs(np.mean(received[100:-20_000] * np.conj(received[16_484 : received.size - 3616]))) / wanted
    assert kept < 0.01  # the 16,384 stored values do not come round


@needs_gnuradio
def test_carrier_and_clock_are_off_as_far_as_asked(tmp_path):
    samples = signal_like(400_000)
    received = through(samples, tmp_path, "--cfo-hz", 40e3, "--sco-ppm", 20)
    lag = 16  # of the polyphase resampler
    expected = clock_offset(np.concatenate([np.zeros(lag, np.complex64), samples]), 20e-6)
    turned = received * np.exp(-2j * np.pi * 40e3 / RATE_HZ * np.arange(received.size))
    stop = min(turned.size, expected.size) - 100
    gain = np.vdot(expected[100:stop], turned[100:stop]) / np.vdot(expected[100:stop], expected[100:stop])
    assert differ_db(turned / gain, expected) < -38  # channel_model's own resampler: -27


@needs_gnuradio
def test_echoes_are_those_of_our_own_air(tmp_path):
    echoes = ["--echo", "1.3:-6:70", "--echo", "4.7:-10:-120", "--echo", "11.2:-16:30"]
    samples = signal_like(100_000)
    received = through(samples, tmp_path, *echoes)
    channel = Channel(channel_preset("room", snr_db=None), RATE_HZ, FREQ_HZ, signal_power=NOMINAL_POWER)
    expected = np.concatenate([np.zeros(31, np.complex64), channel.process(samples), channel.flush()])
    assert differ_db(received, expected) < -100


@needs_gnuradio
def test_the_front_end_is_that_of_our_own_air(tmp_path):
    """Clipping, IQ imbalance, DC and converter, one after the other."""
    samples = signal_like(100_000)
    rail, wanted = np.sqrt(NOMINAL_POWER / 2), ["--iq-amplitude-db", 0.8, "--iq-phase-deg", 4, "--dc-dbc", -20]
    wanted += ["--tx-clip-db", 6, "--bits", 8]
    received = through(samples, tmp_path, *wanted)
    dc = np.sqrt(NOMINAL_POWER / 100) * np.exp(1j * np.pi / 4)
    expected = iq_imbalance(clip(samples, rail * 10 ** (6 / 20)), 0.8, 4) + np.complex64(dc)
    full_scale = rail * 10 ** (12 / 20)
    expected = quantise(expected, full_scale, 8)
    np.testing.assert_allclose(received, expected[: received.size], atol=1.01 * full_scale / 128)
    assert differ_db(received, expected) < -45  # one code off now and then, by rounding


@needs_gnuradio
def test_phase_noise_has_its_rms_and_its_corner(tmp_path):
    """An Ornstein–Uhlenbeck process: rms, and correlation e^(−2π·corner·lag)."""
    options = ["--phase-noise-deg", 2, "--phase-noise-corner-hz", 2e4]
    received = through(np.ones(2_000_000, np.complex64), tmp_path, *options)
    phase = np.angle(received[1000:])
    phase -= phase.mean()
    assert np.rad2deg(phase.std()) == pytest.approx(2, rel=0.05)
    lag = 20
    correlation = np.mean(phase[lag:] * phase[:-lag]) / np.var(phase)
    assert correlation == pytest.approx(np.exp(-2 * np.pi * 2e4 / RATE_HZ * lag), abs=0.05)


@needs_gnuradio
@pytest.mark.slow
def test_fading_has_mean_power_one_and_paths_where_the_profile_says(tmp_path):
    impulses = np.zeros(200_000, np.complex64)
    impulses[1000::2000] = 1
    powers, responses = [], []
    for seed in range(4):
        options = ["--tdl", "etu", "--doppler-hz", 400, "--rate-hz", 5e6, "--seed", seed]
        with open_sink(f"file:{tmp_path}/in.sigmf-meta", RadioConfig(rate_hz=5e6, backoff_db=None)) as sink:
            sink.send(impulses)
        ends = ["--rx", f"file:{tmp_path}/in.sigmf-meta", "--tx", f"file:{tmp_path}/out.sigmf-meta"]
        assert run(gnuradio_air.main, *ends, *options, "--gnuradio-python", PYTHON).status == 0
        received = np.fromfile(tmp_path / "out.sigmf-data", "<c8")
        taps = received[1000 : 1000 + 98 * 2000].reshape(-1, 2000)[:, :60]
        responses.append(np.mean(np.abs(taps) ** 2, axis=0))
        powers.append(responses[-1].sum())
    assert 0.5 < np.mean(powers) < 2  # a few independent fades of 9 paths
    profile = np.mean(responses, axis=0)
    assert profile[8 + 25] > 20 * profile[8 + 20]  # the last path of etu: 5 µs, 25 samples
    assert profile[:4].sum() < 0.01 * profile.sum()  # the skirt of a sinc alone


# the link


HOLD = ["--snr-db", 12, "--cfo-hz", 40e3, "--sco-ppm", 20]
HOLD += ["--echo", "1.3:-6:70", "--echo", "4.7:-10:-120", "--echo", "11.2:-16:30"]


def over_zmq(model, tmp_path, options, seed=1):
    """Report of sender, GNU Radio's air and receiver as processes; no frame may be lost."""
    one, two = zmq_addresses(2)
    argv = ["--radio", two, "--truth", model, "--evaluate", "none", "--report", tmp_path / "r.json"]
    receiver = start("rx/receive.py", *argv)
    air = start("sim/gnuradio_air.py", "--rx", one, "--tx", f"{two}?bind=1", *options, "--seed", seed)
    sender = start("tx/send.py", "--model", model, "--uep", "none", "--radio", f"{one}?bind=1", "--seed", seed)
    with killed(receiver, air, sender):
        for process in (sender, receiver):
            result = finish(process)
            assert (result.status, result.err) == (0, ""), result
        air.terminate()
        result = finish(air)
        assert (result.status, result.err) == (0, ""), result
    samples_in, samples_out = map(int, re.findall(r"\d+", result.out))
    assert 0 < samples_in - samples_out < 60
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["frames"]["lost"] == 0
    return report


def over_our_own(model, tmp_path, options, seed=1):
    """Report of the same through `sim.channel`, which the three processes with `sim/air.py` agree with to the bit."""
    argv = ["--model", model, "--uep", "none", "--evaluate", "none", "--seed", seed, "--report", tmp_path / "own.json"]
    assert run(loopback.main, *argv, *options).status == 0
    return json.loads((tmp_path / "own.json").read_text())


def assert_alike(theirs, ours, within_db=0.3):
    assert theirs["weights"]["nmse_db"] == pytest.approx(ours["weights"]["nmse_db"], abs=within_db)
    assert theirs["sync"]["snr_db"] == pytest.approx(ours["sync"]["snr_db"], abs=0.5)
    assert theirs["sync"]["cfo_hz"] == pytest.approx(ours["sync"]["cfo_hz"], abs=10)
    assert theirs["sync"]["sco_ppm"] == pytest.approx(ours["sync"]["sco_ppm"], abs=1)


@needs_gnuradio
def test_fashion_arrives_as_through_our_own_air(tmp_path):
    assert_alike(over_zmq("fashion", tmp_path, HOLD), over_our_own("fashion", tmp_path, HOLD))


@needs_gnuradio
@pytest.mark.slow
@pytest.mark.parametrize(
    "seed, options",
    [(2, HOLD), (3, HOLD), (4, HOLD), (5, HOLD), *((6, ["--preset", name]) for name in ("cable", "bench", "room"))],
)
def test_airs_agree_on_seeds_and_presets(tmp_path, seed, options):
    assert_alike(over_zmq("fashion", tmp_path, options, seed), over_our_own("fashion", tmp_path, options, seed))


@needs_gnuradio
def test_no_sample_is_lost_in_repeated_bursts(tmp_path):
    """Right after the start, and after idling longer than any timeout of the flowgraph; bursts of uneven messages."""
    one, two = zmq_addresses(2)
    ends = ["--rx", one, "--tx", f"{two}?bind=1"]
    process = start("sim/gnuradio_air.py", *ends, "--snr-db", 100, "--cfo-hz", 1e4, "--sco-ppm", 0)
    samples = signal_like(300_003)
    sent = np.concatenate([samples, np.zeros(64, np.complex64)])  # what the flowgraph keeps is silence
    parts = np.split(sent, [1, 5000, 100_000, 100_007, 270_000])
    left = np.zeros(0, np.complex64)
    with killed(process), open_sink(f"{one}?bind=1", RAW) as sink, open_source(two, RAW) as source:
        for burst in range(10):
            if burst in (3, 7):
                time.sleep(1.5)
            sending = threading.Thread(target=lambda: [sink.send(part) for part in parts])
            sending.start()
            first = burst * sent.size - KEPT if burst else 0  # the end of the burst before comes with this one
            stop = (burst + 1) * sent.size - KEPT
            while left.size < stop - first:
                left = np.concatenate([left, source.read()])
            sending.join()
            everything = np.concatenate([sent[sent.size - KEPT :] if burst else sent[:0], sent[: sent.size - KEPT]])
            expected = everything * np.exp(2j * np.pi * 1e4 / RATE_HZ * np.arange(first, stop))
            phase = np.vdot(expected, left[: stop - first])  # GNU Radio's drifts, by 0.6 mHz here
            assert db(nmse(left[: stop - first] * np.conj(phase) / abs(phase), expected)) < -60, burst
            left = left[stop - first :]
        process.terminate()
        result = finish(process)
    assert (result.status, result.err) == (0, "")


# how it ends


def ends_of_nobody():
    one, two = zmq_addresses(2)
    return ["--rx", one, "--tx", f"{two}?bind=1"]


@pytest.mark.parametrize(
    "options, words",
    [
        (["--preset", "hostile"], ["--junk-samples", "sim/air.py"]),
        (["--burst", "0:300:15"], ["--burst"]),
        (["--gain-step", "5:3"], ["--gain-step"]),
        (["--drop", "5:3"], ["--drop"]),
        (["--repeat", "5:3"], ["--repeat"]),
        (["--cut-stop-samples", "5"], ["--cut-stop-samples"]),
        (["--delay-samples", "5.5"], ["5.5", "whole"]),
        (["--bits", "20"], ["20", "16"]),
        (["--doppler-hz", "9999"], ["9999"]),
        (["--snr-db", "many"], ["many"]),
        (["--idle-s", "0"], ["--idle-s"]),
    ],
)
def test_what_it_cannot_do_is_refused_by_name(options, words):
    assert_refused(run(gnuradio_air.main, *ends_of_nobody(), *options), 1, *words)


@pytest.mark.parametrize(
    "rx, tx, words",
    [
        ("zmq:tcp://127.0.0.1:5555?bind=1", "zmq:tcp://127.0.0.1:5556?bind=1", ["--rx", "sources connect", "?bind=1"]),
        ("zmq:tcp://127.0.0.1:5555", "zmq:tcp://127.0.0.1:5556", ["--tx", "sinks bind"]),
        ("zmq:tcp://127.0.0.1:5555?pattern=srsran", "zmq:tcp://127.0.0.1:5556?bind=1", ["pull, sub, req"]),
        ("zmq:tcp://127.0.0.1:5555", "zmq:tcp://127.0.0.1:5556?bind=1&pattern=pull", ["push, pub, rep"]),
        ("pluto:ip:192.168.2.1", "zmq:tcp://127.0.0.1:5556?bind=1", ["flowgraphs"]),
        ("file:none.sigmf-meta", "zmq:tcp://127.0.0.1:5556?bind=1", ["none.sigmf-meta"]),
        ("nonsense", "zmq:tcp://127.0.0.1:5556?bind=1", ["nonsense"]),
    ],
)
def test_ends_it_cannot_have(rx, tx, words):
    assert_refused(run(gnuradio_air.main, "--rx", rx, "--tx", tx), 1, *words)


def test_a_recording_of_integers_is_refused(tmp_path):
    (tmp_path / "a.sigmf-data").write_bytes(bytes(400))
    meta = {"global": {"core:datatype": "ci16_le", "core:sample_rate": 1e6, "core:version": "1.0.0"}, "captures": []}
    (tmp_path / "a.sigmf-meta").write_text(json.dumps(meta))
    ends = ["--rx", f"file:{tmp_path}/a.sigmf-meta", "--tx", f"file:{tmp_path}/b.sigmf-meta"]
    assert_refused(run(gnuradio_air.main, *ends), 1, "cf32_le", "sim/air.py")


def test_without_gnu_radio_it_says_what_to_do(tmp_path):
    """No such program, one that is no Python, a Python without GNU Radio, and one of another age."""
    old = tmp_path / "old"
    old.write_text("#!/bin/sh\necho 3.8.2.0\n")
    bare = tmp_path / "bare"
    bare.write_text("#!/bin/sh\necho \"ModuleNotFoundError: No module named 'gnuradio'\" >&2; exit 1\n")
    for path in (old, bare):
        path.chmod(0o755)
    for python, word in [(tmp_path / "none", "No such file"), (bare, "No module named"), (old, "3.8.2.0")]:
        result = run(gnuradio_air.main, *ends_of_nobody(), "--gnuradio-python", python)
        assert_refused(result, 3, str(python), word, "apt-get install gnuradio", "--gnuradio-python")


def processes(word):
    """Ids of the processes whose command line has the word, defunct ones excepted."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/cmdline", "rb") as file:
                line = file.read()
        except OSError:
            continue  # it ended meanwhile
        if word.encode() in line and b"headless_air.py" in line:
            found.append(int(name))
    return found


def running_air(*options):
    """The air's process, the id of GNU Radio's once it runs, and the ends."""
    ends = ends_of_nobody()
    word = ends[1].removeprefix("zmq:")
    process = start("sim/gnuradio_air.py", *ends, *options)
    try:
        (flowgraph,) = wait_for(lambda: processes(word), 60)
    except BaseException:
        process.kill()
        raise
    return process, flowgraph, ends, lambda: not processes(word)


def pass_samples(ends, num=20_000):
    """Some samples through the air, to know that it runs."""
    sent, received = 0, 0
    with open_sink(f"{ends[1]}?bind=1", RAW) as sink, open_source(ends[3].removesuffix("?bind=1"), RAW) as source:
        while received < num:
            if sent < num + 1000:
                sink.send(np.ones(1000, np.complex64))
                sent += 1000
            else:
                received += source.read().size
    return sent


@needs_gnuradio
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_it_ends_well_and_counts(signum):
    process, _, ends, gone = running_air()
    with killed(process):
        sent = pass_samples(ends)
        process.send_signal(signum)
        result = finish(process)
        assert (result.status, result.err) == (0, "")
        assert f"{sent} samples in" in result.out
        assert gone()


@needs_gnuradio
def test_it_ends_when_the_sender_is_idle():
    process, _, ends, gone = running_air("--idle-s", 1)
    with killed(process):
        sent = pass_samples(ends)
        result = finish(process)
        assert (result.status, result.err) == (0, "") and f"{sent} samples in" in result.out
        assert gone()


@needs_gnuradio
def test_gnu_radio_killed_is_one_line():
    process, flowgraph, ends, _ = running_air()
    with killed(process):
        pass_samples(ends)
        os.kill(flowgraph, signal.SIGKILL)
        assert_refused(finish(process), 3, "signal 9", "again")


@needs_gnuradio
def test_gnu_radio_stopped_is_one_line_within_the_timeout_at_all_three():
    """The air, a sender that nobody takes samples from, and a receiver that none come to."""
    process, flowgraph, ends, gone = running_air("--timeout-s", 10)
    impatient = RadioConfig(timeout_s=1.0, backoff_db=None)
    with killed(process):
        pass_samples(ends)
        os.kill(flowgraph, signal.SIGSTOP)
        with open_source(ends[3].removesuffix("?bind=1"), impatient) as source:
            with pytest.raises(Exception, match="no samples came from zmq:tcp"):
                while True:
                    source.read()
        with pytest.raises(Exception, match="were not taken within|nobody took samples"):
            with open_sink(f"{ends[1]}?bind=1", impatient) as sink:
                for _ in range(100):
                    sink.send(np.ones(1 << 18, np.complex64))
        assert_refused(finish(process), 3, "not answered for 10 s", str(flowgraph))
        assert gone()


@needs_gnuradio
@pytest.mark.parametrize("stopped", [False, True])
def test_a_killed_starter_leaves_no_orphan(stopped):
    """Not even a GNU Radio that cannot notice, as it is stopped itself."""
    process, flowgraph, ends, gone = running_air()
    with killed(process):
        pass_samples(ends)
        if stopped:
            os.kill(flowgraph, signal.SIGSTOP)
        process.kill()
        wait_for(gone, 20)


@needs_gnuradio
def test_an_address_in_use_is_one_line():
    (one, two) = zmq_addresses(2)
    with open_sink(f"{two}?bind=1", RAW):
        result = run(gnuradio_air.main, "--rx", one, "--tx", f"{two}?bind=1", "--gnuradio-python", PYTHON)
    assert_refused(result, 3, "Address already in use")
