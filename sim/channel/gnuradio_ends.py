"""The two ends of GNU Radio's air: its ZMQ blocks, and recordings that it reads and writes as raw samples."""

import dataclasses
from pathlib import Path

import numpy as np

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.radio import RadioConfig, open_sink, open_source, parse

SOURCES = {"pull": "pull_source", "sub": "sub_source", "req": "req_source"}
SINKS = {"push": "push_sink", "pub": "pub_sink", "rep": "rep_sink"}


def recorded(address: str, config: RadioConfig) -> RadioConfig:
    """The config with the rate and carrier of the recording, if the address is one."""
    if not address.startswith("file:"):
        return config
    with open_source(address, config) as source:
        return dataclasses.replace(config, rate_hz=source.rate_hz, freq_hz=source.freq_hz)


def record(raw: Path, address: str, config: RadioConfig) -> None:
    """Convert GNU Radio's raw samples to a recording."""
    with open_sink(address, config) as sink, open(raw, "rb") as samples:
        sink.hardware = "GNU Radio's channel blocks: simulated"
        while (block := np.fromfile(samples, "<c8", 1 << 20)).size:
            sink.send(block)


def source_of(address: str) -> dict:
    """GNU Radio's block at the sender's end."""
    parsed = parse(address)
    if parsed.scheme == "file":
        with open_source(address) as source:  # checks the recording
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
            f"{option} is {parsed}: GNU Radio's air has zmq: and file: ends; for a PlutoSDR see sim/channel/flowgraphs"
        )
    pattern = parsed.options.get("pattern", pattern)
    if pattern not in blocks:
        raise InputError(f"{option} is {parsed}: GNU Radio has no such block; its patterns are {', '.join(blocks)}")
    if parsed.options.get("bind", "0") != bind:
        raise InputError(f"{option} is {parsed}: {hint}")
    return {"block": blocks[pattern], "endpoint": parsed.target}
