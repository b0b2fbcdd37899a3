"""The air as a GNU Radio flowgraph without a window; `sim/gnuradio_air.py` starts it and says what it does.

    python3 sim/channel/flowgraphs/headless_air.py '{"rx": {"block": "pull_source", …}, "tx": …, "noise_var": 0.01, …}'

Runs under a Python of GNU Radio's (3.10), whose NumPy may be older than this project's and which has none of its other
packages: imports GNU Radio, NumPy and the standard library only. Every 0.2 s it prints how many samples have come in
and gone out, by which the starter knows that it lives, and ends as soon as nobody reads that any more.

What GNU Radio does that one would not expect, and what is done about it here:

- A source over ZMQ whose output buffer is full in the middle of a message holds the rest back until the next message
  or its timeout. Its buffer has room for many messages (MIN_BUFFER); what is held comes out after TIMEOUT_MS.
- It takes a second to start. A sender's samples wait in ZMQ until its source connects, and it takes no more than its
  blocks hold until a receiver connects: over PUSH/PULL and REQ/REP nothing is lost, whoever starts first.
- Whenever that timeout ends in vain it sleeps for up to 0.25 s, so the first samples after an idle spell may be that
  late. None is lost: they wait in ZMQ.
- ZMQ's high-water mark counts messages, a thousand by default, whatever their length: set to HIGH_WATER_MARK.
- ``channel_model`` swallows the first 3 samples of a stream, as its resampler of 8 taps is there without a clock offset
  too. A delay of 3 goes before it, so that sample n of the output is sample n of the input. At the end of a stream it
  keeps some 10 samples, and the resampler below as many: a sender pads, as ours does.
- ``channel_model`` makes a clock offset with that resampler, which is made for signals of half the band. Ours fills
  0.78 of it, and the error is −27 dB of the signal. A polyphase resampler (−41 dB) stands before it instead.
- Its noise is drawn from 16,384 stored values, which end at some 4 σ (3.8 to 5.7) and whose power is off by up to
  0.1 dB, depending on the seed. The power is put right (`noise_voltage`); where the distribution ends cannot be. After
  the receiver's FFT noise is the sum of a thousand of them, and Gaussian again.
- Its carrier offset comes in steps of 2⁻³² of the rate: after 10⁷ samples the phase is off by up to 0.01 rad.
- ``impairments`` has phase noise of one fixed seed; its corner, fixed at 0.0016 of the rate, is set here.
- A selective fading model cuts off what its sinc has before tap 0: all its delays are FADING_LEAD samples longer.
- Blocks have buffers of 8,192 samples, whose hand-overs cost more than half the speed: the starter sets
  GR_CONF_DEFAULT_BUFFER_SIZE.
- A socket that is closed waits 1 s for its last messages to be taken. So the end of a stream is first let out.
"""

import ctypes
import json
import math
import signal
import sys
import time

import numpy as np
from gnuradio import analog, blocks, channels, filter, gr, zeromq

TIMEOUT_MS = 500
HIGH_WATER_MARK = 8  # messages
MIN_BUFFER = 262_144  # samples between source and first block
LOST_AT_START = 3  # samples, by channel_model
NUM_STORED = 16_384  # of channel_model's noise
FADING_LEAD = 8  # samples
SINUSOIDS = 8  # of a fading gain
RESAMPLER_PHASES, RESAMPLER_TAPS = 128, 32
REPORT_S = 0.2
STOP_S = 2.0
KEPT_AT_END = 100  # samples at most, by the filters
COMPLEX = gr.sizeof_gr_complex


def main(argv) -> int:
    """Build, run until a signal, the end of a recording or an idle sender, and print samples in and out."""
    die_with_parent()
    config = json.loads(argv[1])
    stopped = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.append(True))
    source, sink = make_source(config["rx"]), make_sink(config["tx"])
    top = gr.top_block("airnet-sdr air")
    source.set_min_output_buffer(MIN_BUFFER)
    top.connect(source, *channel_blocks(config), sink)
    top.start()
    follow(source, sink, config, stopped)
    top.stop()
    top.wait()
    if "path" in config["tx"]:
        sink.close()
    report(source, sink)
    return 0


def die_with_parent() -> None:
    """Linux: killed when the starter is, even while stopped itself. Elsewhere the broken pipe ends it if it runs."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def follow(source, sink, config, stopped) -> None:
    """Report until there is a reason to stop: a signal, a recording at its end, or no sample for idle_s after the last.

    Then what is in the blocks comes out: after a signal for STOP_S at most, else until all has been taken.
    """
    held_s, idle_s, num_items = 1e-3 * TIMEOUT_MS + REPORT_S, config["idle_s"], config["rx"].get("num_items")
    before, since, told = (0, 0), time.monotonic(), None
    while True:
        now, clock = report(source, sink), time.monotonic()
        if now != before:
            before, since = now, clock
        quiet_s = clock - since
        if stopped:
            told = told or clock
            if not now[0] or quiet_s > held_s or clock - told > STOP_S or len(stopped) > 1:
                return
        ended = now[0] == num_items or (idle_s is not None and now[0] and quiet_s > idle_s)
        to_come = (now[0] + config["delay"]) / config["clock"] - now[1]
        if ended and quiet_s > held_s and to_come < KEPT_AT_END:
            return
        time.sleep(REPORT_S)


def report(source, sink) -> tuple:
    """Print and return how many samples have come in and gone out."""
    counts = source.nitems_written(0), sink.nitems_read(0)
    print(*counts, flush=True)
    return counts


def make_source(end):
    """Samples off a socket, or out of a raw file of float32 pairs."""
    if "path" in end:
        return blocks.file_source(COMPLEX, end["path"], False)
    return getattr(zeromq, end["block"])(COMPLEX, 1, end["endpoint"], TIMEOUT_MS, False, HIGH_WATER_MARK)


def make_sink(end):
    """Samples onto a socket, or into a raw file of float32 pairs."""
    if "path" in end:
        return blocks.file_sink(COMPLEX, end["path"])
    return getattr(zeromq, end["block"])(COMPLEX, 1, end["endpoint"], TIMEOUT_MS, False, HIGH_WATER_MARK)


def channel_blocks(config) -> list:
    """The channel in the order of `sim.channel`, but for the clock, which comes before the echoes."""
    chain = [blocks.delay(COMPLEX, config["delay"] + LOST_AT_START)]
    if config["clip"] is not None:
        chain.append(per_rail(lambda: [analog.rail_ff(-config["clip"], config["clip"])]))
    if config["fading"] is not None:
        chain.append(fading(seed=config["seed"], **config["fading"]))
    if config["clock"] != 1:
        taps = resampler_taps()
        chain.append(filter.pfb_arb_resampler_ccf(1 / config["clock"], taps, RESAMPLER_PHASES))
    chain.append(
        channels.channel_model(
            noise_voltage=noise_voltage(config["noise_var"], config["seed"]),
            frequency_offset=config["cfo"],
            epsilon=1.0,
            taps=[complex(*tap) for tap in config["taps"]],
            noise_seed=config["seed"],
        )
    )
    if config["impairments"] is not None:
        chain += impairments(**config["impairments"])
    if config["converter"] is not None:
        chain.append(per_rail(lambda: converter(**config["converter"])))
    return chain


def noise_voltage(noise_var: float, seed: int) -> float:
    """The voltage at which the stored values of channel_model's noise have the power noise_var."""
    stored = np.array(analog.fastnoise_source_c(analog.GR_GAUSSIAN, 1.0, seed, NUM_STORED).samples())
    return math.sqrt(noise_var / np.mean(np.abs(stored) ** 2))


def resampler_taps() -> list:
    """A Kaiser-windowed sinc of unit gain (Oppenheim and Schafer, Discrete-Time Signal Processing, 7.5.3)."""
    num = RESAMPLER_PHASES * RESAMPLER_TAPS
    t = (np.arange(num) - num / 2) / RESAMPLER_PHASES  # samples; one phase is exactly on the input's
    return (np.sinc(t) * np.kaiser(num, 5.0)).tolist()


def fading(seed, doppler, rician_k, delays=None, gains=None):
    """One gain for all paths, or one for each of a profile; doppler in cycles/sample."""
    common = SINUSOIDS, doppler, rician_k is not None, rician_k or 0.0, seed
    if delays is None:
        return channels.fading_model(*common)
    num_taps = math.ceil(max(delays)) + 2 * FADING_LEAD
    return channels.selective_fading_model(*common, [delay + FADING_LEAD for delay in delays], gains, num_taps)


def impairments(phase_noise_db, phase_noise_alpha, magbal_db, phasebal_deg, dc, gain) -> list:
    """Phase noise, IQ imbalance and DC offset, then the gain that keeps the power."""
    block = channels.impairments(phase_noise_db, magbal_db, phasebal_deg, dc[1], dc[0], 0, 0, 0)
    block.phase_noise.set_alpha(phase_noise_alpha)
    return [block, blocks.multiply_const_cc(gain)]


def converter(full_scale, bits) -> list:
    """To the codes of a converter and back; GNU Radio's quantizer saturates at 16 bits only, hence the rail."""
    return [
        blocks.multiply_const_ff(1 / full_scale),
        analog.rail_ff(-1, 1 - 2.0 ** (1 - bits)),
        channels.quantizer(bits),
        blocks.multiply_const_ff(full_scale),
    ]


def per_rail(make):
    """A block that does to I and Q alike what the float blocks of make() do."""
    block = gr.hier_block2("per rail", gr.io_signature(1, 1, COMPLEX), gr.io_signature(1, 1, COMPLEX))
    split, join = blocks.complex_to_float(), blocks.float_to_complex()
    block.connect(block, split)
    for rail in (0, 1):
        first, *rest = make()
        block.connect((split, rail), first)
        last = first
        for following in rest:
            block.connect(last, following)
            last = following
        block.connect(last, (join, rail))
    block.connect(join, block)
    return block


if __name__ == "__main__":
    sys.exit(main(sys.argv))
