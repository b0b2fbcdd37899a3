"""The air as a GNU Radio flowgraph: what `sim/air.py` does, by GNU Radio's own channel blocks, over ZMQ or recordings.

    python sim/gnuradio_air.py --rx zmq:tcp://127.0.0.1:5555 --tx "zmq:tcp://127.0.0.1:5556?bind=1" --preset room

GNU Radio's sources connect and its sinks bind: the sender needs ?bind=1, the receiver none. It runs under its own
Python (this environment's, else /usr/bin/python3) in a process of its own; `sim/flowgraphs/headless_air.py` is what
runs there, and says what of GNU Radio's is in the way of exactness. What it can't do is refused. Results are
repeatable with a seed, but are other draws than those of `sim/air.py`, and depend on it but for phase noise, whose seed
GNU Radio fixes.
"""

import dataclasses
import json
import math
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[1] / "src")
    from airnet_sdr.dsp.host import environment

    environment.set_defaults()

import numpy as np

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.host.command import CommandParser, run_command
from airnet_sdr.dsp.radio import ADDRESS_HELP, RadioConfig, open_sink, open_source, parse
from airnet_sdr.dsp.radio.scale import NOMINAL_POWER
from airnet_sdr.dsp.units import linear
from airnet_sdr.sim.air import add_air_arguments
from airnet_sdr.sim.channel import Channel, ChannelConfig, channel_config_from_args, multipath
from airnet_sdr.sim.gnuradio_process import Flowgraph, find_python
from airnet_sdr.sim.impairments import iq_gains, profile

SCRIPT = Path(__file__).resolve().parent / "flowgraphs" / "headless_air.py"
SOURCES = {"pull": "pull_source", "sub": "sub_source", "req": "req_source"}
SINKS = {"push": "push_sink", "pub": "pub_sink", "rep": "rep_sink"}
CANNOT = (
    "junk_samples",
    "bursts",
    "gain_steps",
    "drops",
    "repeats",
    "events_every_samples",
    "cut_start_samples",
    "cut_stop_samples",
)
MAX_BITS = 16  # of GNU Radio's quantizer
SILENT_DB = -300.0  # impairments takes its phase noise in dB


def main(argv=None) -> int:
    """Run the air until it is told to stop (SIGINT, SIGTERM), the recording ends or the sender is idle."""
    parser = CommandParser(prog="gnuradio_air", description=__doc__, epilog="addresses:\n" + ADDRESS_HELP)
    add_air_arguments(parser)
    parser.add_argument("--gnuradio-python", metavar="PATH", help="the Python that has GNU Radio (default: found)")
    parser.add_argument(
        "--timeout-s",
        type=float,
        default=20.0,
        metavar="T",
        help="give up on a GNU Radio that says nothing for so long",
    )
    args = parser.parse_args(argv)
    return run_command(parser, lambda: air(args))


def air(args) -> None:
    """Translate, start GNU Radio, and say what passed; being told to stop is a good end."""
    config = RadioConfig(args.freq_hz, args.rate_hz, timeout_s=args.timeout_s, backoff_db=None)  # samples as they come
    ends, config = {"rx": source_of(args.rx), "tx": sink_of(args.tx)}, recorded(args.rx, config)
    channel = settings(channel_config_from_args(args), config.rate_hz, config.freq_hz, args.seed)
    if not args.idle_s > 0:
        raise InputError(f"--idle-s must be positive; got {args.idle_s:g}")
    python = find_python(args.gnuradio_python)
    with tempfile.TemporaryDirectory(prefix="airnet-") as folder:
        raw = None
        if "recording" in ends["tx"]:
            raw = Path(folder) / "out.cf32"
            ends["tx"] = {"path": str(raw)}
        idle_s = None if args.idle_s == math.inf else args.idle_s
        argument = json.dumps({**ends, **channel, "idle_s": idle_s})
        with Flowgraph(python, SCRIPT, argument, args.timeout_s) as flowgraph, suppress(KeyboardInterrupt, SystemExit):
            flowgraph.follow()
        if raw is not None:
            record(raw, args.tx, config)
    print(f"gnuradio_air: {flowgraph.samples_in} samples in, {flowgraph.samples_out} out")


def recorded(address: str, config: RadioConfig) -> RadioConfig:
    """With the rate and carrier of a recording, if the samples come from one."""
    if not address.startswith("file:"):
        return config
    with open_source(address, config) as source:
        return dataclasses.replace(config, rate_hz=source.rate_hz, freq_hz=source.freq_hz)


def record(raw: Path, address: str, config: RadioConfig) -> None:
    """The raw samples that GNU Radio wrote, as a recording."""
    with open_sink(address, config) as sink, open(raw, "rb") as samples:
        sink.hardware = "GNU Radio's channel blocks: simulated"
        while (block := np.fromfile(samples, "<c8", 1 << 20)).size:
            sink.send(block)


def source_of(address: str) -> dict:
    """GNU Radio's block at the sender's end."""
    parsed = parse(address)
    if parsed.scheme == "file":
        with open_source(address) as source:  # says what is wrong with it
            count = source.num_samples
        path = Path(parsed.target).with_suffix(".sigmf-data")
        if path.stat().st_size != 8 * count:
            raise InputError(
                f"recording {parsed.target} is not cf32_le; GNU Radio's file source reads that, use sim/air.py"
            )
        return {"path": str(path), "num_items": count}
    return _socket(
        parsed, "--rx", SOURCES, "pull", bind="0", hint="GNU Radio's sources connect: give the sender ?bind=1"
    )


def sink_of(address: str) -> dict:
    """GNU Radio's block at the receiver's end."""
    parsed = parse(address)
    if parsed.scheme == "file":
        return {"recording": parsed.target}
    return _socket(parsed, "--tx", SINKS, "push", bind="1", hint="GNU Radio's sinks bind: add ?bind=1")


def _socket(parsed, option, blocks, pattern, bind, hint) -> dict:
    if parsed.scheme != "zmq":
        raise InputError(
            f"{option} is {parsed}: GNU Radio's air has zmq: and file: ends; for a PlutoSDR see sim/flowgraphs"
        )
    pattern = parsed.options.get("pattern", pattern)
    if pattern not in blocks:
        raise InputError(f"{option} is {parsed}: GNU Radio has no such block; its patterns are {', '.join(blocks)}")
    if parsed.options.get("bind", "0") != bind:
        raise InputError(f"{option} is {parsed}: {hint}")
    return {"block": blocks[pattern], "endpoint": parsed.target}


def settings(config: ChannelConfig, rate_hz: float, freq_hz: float, seed: int) -> dict:
    """What `headless_air.py` is to do, in cycles/sample, samples and linear powers; raises InputError for the rest."""
    _refuse(config)
    seed = 1 + seed % (2**31 - 1)  # GNU Radio takes 0 for "any"
    channel = Channel(config, rate_hz, freq_hz, seed, NOMINAL_POWER)
    still = dataclasses.replace(config, doppler_hz=0, rician_k_db=None, tdl=None)
    echoes = multipath(still, rate_hz, np.random.default_rng(0))
    taps = np.ones(1) if echoes is None else echoes.taps()[0]
    total_power = NOMINAL_POWER + channel.noise_var
    return {
        "delay": int(config.delay_samples),
        "clip": None if config.tx_clip_db is None else _rail(NOMINAL_POWER, config.tx_clip_db),
        "fading": _fading(config, rate_hz),
        "clock": 1 + channel.sco,
        "taps": [[float(tap.real), float(tap.imag)] for tap in taps],
        "noise_var": channel.noise_var,
        "cfo": config.cfo_hz / rate_hz,
        "seed": seed,
        "impairments": _impairments(config, rate_hz),
        "converter": None
        if config.bits is None
        else {"bits": config.bits, "full_scale": _rail(total_power, config.full_scale_db)},
    }


def _refuse(config: ChannelConfig) -> None:
    for name in CANNOT:
        if getattr(config, name) != getattr(ChannelConfig(), name):
            option = {"bursts": "burst", "gain_steps": "gain-step", "drops": "drop", "repeats": "repeat"}.get(
                name, name
            )
            raise InputError(f"GNU Radio's air cannot do --{option.replace('_', '-')}; leave it out, or use sim/air.py")
    if config.delay_samples % 1:
        raise InputError(f"GNU Radio's air delays by whole samples; --delay-samples is {config.delay_samples:g}")
    if (config.bits or 0) > MAX_BITS:
        raise InputError(f"GNU Radio's converter has up to {MAX_BITS} bits; --bits is {config.bits}")


def _rail(power: float, level_db: float) -> float:
    """A full scale so many dB over the rms of a rail."""
    return float(np.sqrt(power / 2 * linear(level_db)))


def _fading(config: ChannelConfig, rate_hz: float) -> dict | None:
    """Of fading_model, or with a profile of selective_fading_model."""
    if config.tdl is None and not config.doppler_hz and config.rician_k_db is None:
        return None
    rician_k = None if config.rician_k_db is None else float(linear(config.rician_k_db))
    common = {"doppler": config.doppler_hz / rate_hz, "rician_k": rician_k}
    if config.tdl is None:
        return common
    delays, gains = profile(config.tdl, rate_hz)
    return {**common, "delays": delays.tolist(), "gains": gains.tolist()}


def _impairments(config: ChannelConfig, rate_hz: float) -> dict | None:
    """Of GNU Radio's impairments, which are a sender's: turned into those of the receiver that `sim.impairments` has.

    Theirs is m·cos(p)·I + j·(Q + m·sin(p)·I), ours s·(I + j·g·(cos(φ)·Q − sin(φ)·I)), the same with tan(p) = −g·sin(φ),
    m·cos(p) = 1/(g·cos(φ)) and a gain of s·g·cos(φ) after it. Phase noise: α·m·w through a pole at 1 − α has the
    variance m²·α/(2 − α).
    """
    if not (config.phase_noise_deg or config.iq_amplitude_db or config.iq_phase_deg or config.dc_dbc is not None):
        return None
    alpha = 1 - math.exp(-2 * math.pi * config.phase_noise_corner_hz / rate_hz)
    noise = math.radians(config.phase_noise_deg) * math.sqrt((2 - alpha) / alpha)
    g, phi = 10 ** (config.iq_amplitude_db / 20), math.radians(config.iq_phase_deg)
    mu, nu = iq_gains(config.iq_amplitude_db, config.iq_phase_deg)
    gain, p = abs(mu + nu) / math.hypot(1, g * math.sin(phi)) * g * math.cos(phi), -math.atan(g * math.sin(phi))
    dc = 0j
    if config.dc_dbc is not None:
        dc = np.sqrt(NOMINAL_POWER * linear(config.dc_dbc)) * np.exp(1j * np.deg2rad(config.dc_phase_deg)) / gain
    return {
        "phase_noise_db": 20 * math.log10(noise) if noise else SILENT_DB,
        "phase_noise_alpha": alpha,
        "magbal_db": -20 * math.log10(g * math.cos(phi) * math.cos(p)),
        "phasebal_deg": math.degrees(p),
        "dc": [float(dc.real), float(dc.imag)],
        "gain": gain,
    }


if __name__ == "__main__":
    sys.exit(main())
