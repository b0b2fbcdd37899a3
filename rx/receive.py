"""Receive a network over a radio, rebuild it and measure it: `python rx/receive.py --radio ADDRESS --report R.json`."""

import argparse
import os
import sys
import time
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[1] / "src")

import numpy as np

from airnet_sdr.dsp.burst import ReceivedFrame
from airnet_sdr.dsp.errors import InputError, NothingReceivedError, RadioTimeoutError
from airnet_sdr.dsp.frame import VERSION, FrameFormat, frame_samples
from airnet_sdr.dsp.host.command import CommandParser, run_command
from airnet_sdr.dsp.radio import ADDRESS_HELP, Source, open_source
from airnet_sdr.dsp.radio.options import add_bench_arguments, add_radio_arguments, print_check, radio_config
from airnet_sdr.dsp.radio.record import RecordedSource, recording
from airnet_sdr.dsp.sync import MAX_CFO
from airnet_sdr.models import checkpoint as checkpoints
from airnet_sdr.models.batch_norm import measured_statistics, statistics_of
from airnet_sdr.models.data import LOADERS
from airnet_sdr.models.evaluate import accuracy, settle
from airnet_sdr.models.nets import build
from airnet_sdr.models.packing import load_vectors, tensor_specs, tensors_of, to_vectors
from airnet_sdr.models.register import add_architecture_argument, use_architecture
from airnet_sdr.rx.pipeline import BurstCombiner, Listener, rebuild
from airnet_sdr.rx.report import draw, make_report, write_json

IDLE_S = 1.0  # a complete burst is reported once no samples have come for so long...
SILENT_FRAMES = 1.5  # ...or no frame in this many frame lengths of samples


def add_receiver_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that decide what is done with what is received, shared with the simulations."""
    group = parser.add_argument_group("receiver")
    group.add_argument("--report", metavar="R.json", help="write the report here")
    group.add_argument("--picture", metavar="P.png", help="draw constellation, channel, layers and accuracy here")
    group.add_argument("--save", metavar="W.safetensors", help="write the rebuilt weights here")
    group.add_argument("--truth", metavar="NAME|PATH", help="the model as sent: adds the true errors to the report")
    group.add_argument("--evaluate", metavar="DATASET|none", help="evaluation data (default: what the manifest names)")
    group.add_argument(
        "--estimator",
        choices=["linear", "bayes"],
        default="linear",
        help="linear MMSE, or the posterior mean given the weights' density (default: linear)",
    )
    group.add_argument("--data", metavar="DIR", help="where data sets are looked for first")


def check_receiver_arguments(args) -> None:
    """Refuse early what would fail only after the reception."""
    use_architecture(args)
    if args.evaluate not in (None, "none", *LOADERS):
        raise InputError(f"no data set {args.evaluate!r}; --evaluate takes none or one of: {', '.join(LOADERS)}")


def conclude(burst: BurstCombiner | None, listener: Listener, args, radio: dict, seconds: dict) -> dict:
    """Rebuild, evaluate, save and report one burst; raises NothingReceivedError when there is nothing to rebuild."""
    manifest = None if burst is None else burst.manifest()
    if manifest is None:
        raise NothingReceivedError(_why_nothing(burst, listener))
    started = time.perf_counter()
    module = build(manifest.model, manifest.widths)
    specs = tensor_specs(module)
    weights = rebuild(burst, manifest, [spec.numel for spec in specs], args.estimator)
    truth = None
    if args.truth is not None:
        checkpoint = checkpoints.load(args.truth, use_architecture(args))
        sent, named = (manifest.model, manifest.widths), (checkpoint.arch, checkpoint.widths)
        if sent != named:
            raise InputError(
                f"--truth is a {_describe(*named)}, what arrived is a {_describe(*sent)}; give the model that was sent"
            )
        truth = to_vectors(checkpoint.tensors)
    seconds["dsp"] += time.perf_counter() - started
    dataset = args.evaluate or manifest.dataset
    score, num_unlabelled = None, 0
    load_vectors(module, weights.vectors)
    if dataset != "none":
        if dataset not in LOADERS:
            raise InputError(f"the manifest names the data set {dataset!r}, unknown here; try --evaluate none")
        num_unlabelled = settle(module, dataset, args.data)
        score = accuracy(module, dataset, args.data)
    samples = listener.receiver.num_samples
    timing = {
        "seconds_total": time.perf_counter() - seconds["start"],
        "seconds_dsp": seconds["dsp"],
        "samples": samples,
        "samples_per_second": samples / seconds["dsp"] if seconds["dsp"] > 0 else None,
    }
    warnings = [*radio.pop("warnings", []), *_warnings(listener)]
    if statistics_of(module) and not num_unlabelled:
        warnings.append("batch norm's statistics are not measured: without evaluation data there are no inputs for it")
    report = make_report(burst, manifest, specs, weights, score, truth, radio, timing, warnings)
    report["batch_norm_inputs"] = num_unlabelled or None
    if args.save is not None:
        metadata = {"received_over": radio["address"]}
        checkpoints.save(
            args.save,
            checkpoints.Checkpoint(
                manifest.model,
                manifest.dataset,
                manifest.accuracy if score is None else score,
                tensors_of(module),
                metadata,
                manifest.widths,
                measured_statistics(module) if num_unlabelled else {},
            ),
        )
    if args.report is not None:
        write_json(args.report, report)
    if args.picture is not None:
        draw(args.picture, report, burst)
    return report


def summary(report: dict) -> str:
    """A few lines for a person."""
    frames, sync, weights = report["frames"], report["sync"], report["weights"]
    sent, got = report["accuracy_sent"], report["accuracy"]
    lines = [
        f"{report['model']}: {frames['received']} of {frames['expected']} frames, {frames['cycles']} cycle(s), "
        f"{sync['snr_db']:.1f} dB per symbol, CFO {sync['cfo_hz']:+.0f} Hz, clock {sync['sco_ppm']:+.1f} ppm",
    ]
    if report["scheme"] == "digital":
        lines.append("weights: digital, all arrived")
    else:
        arrived = weights["snr_db"] is not None
        lines.append(f"weights at {weights['snr_db']:.1f} dB" if arrived else "weights: nothing arrived")
    if weights["nmse_db"] is not None:
        lines[-1] += f", true NMSE {weights['nmse_db']:.2f} dB"
    if got is not None:
        lines.append(f"accuracy {100 * got:.2f} %" + ("" if sent is None else f", sent with {100 * sent:.2f} %"))
    return "\n".join(lines + [f"warning: {text}" for text in report["warnings"]])


def listen(source: Source, listener: Listener, args, seconds: dict):
    """Feed the listener; yields each burst to report: one at the end, and with --follow one at each new cycle."""
    quiet_since = time.monotonic()
    reported: dict = {}
    while True:
        waiting = not _complete(listener.current)
        try:
            block = source.read(args.timeout_s if waiting else min(IDLE_S, args.timeout_s))
        except RadioTimeoutError:
            if listener.receiver.num_samples == 0:
                raise
            if args.follow and time.monotonic() - quiet_since < args.timeout_s:
                continue
            break
        if block is None:
            break
        started = time.perf_counter()
        found = listener.push(block)
        seconds["dsp"] += time.perf_counter() - started
        if found:
            quiet_since = time.monotonic()
        burst = listener.current
        if args.follow:
            if _complete(burst) and min(burst.heard.values()) > reported.get(burst.header, 0):
                reported[burst.header] = min(burst.heard.values())
                yield burst
        elif _complete(burst) and (listener.silent_frames > SILENT_FRAMES or min(burst.heard.values()) >= args.cycles):
            break
        if time.monotonic() - quiet_since > args.timeout_s:
            break
    started = time.perf_counter()
    listener.finish()
    seconds["dsp"] += time.perf_counter() - started
    burst = listener.best
    if not args.follow or burst is None or burst.header not in reported:
        yield burst


def receive(args) -> None:
    """Listen, and report what arrived."""
    if args.radio is None:
        print("radio addresses:\n" + ADDRESS_HELP)
        raise InputError("--radio is missing; give one of the addresses above")
    check_receiver_arguments(args)
    if args.truth is not None:
        checkpoints.load(args.truth, use_architecture(args))
    Listener()  # loads what it needs before anybody can tell that it listens: loading may not be interrupted
    with open_source(args.radio, radio_config(args)) as source, recording(args.record, source) as record:
        max_cfo = MAX_CFO if args.max_cfo_hz is None else 2 * np.pi * args.max_cfo_hz / source.rate_hz
        if not 0 < max_cfo < 0.9 * np.pi:
            raise InputError(f"--max-cfo-hz must be positive and below 0.45 of the rate; got {args.max_cfo_hz:g}")
        listener = Listener(max_cfo=max_cfo, num_threads=min(os.cpu_count() or 1, 4))
        if record:
            source = RecordedSource(source, record)
            listener.heard = lambda frame: record.annotate(*annotation(frame, listener.receiver.fmt))
        seconds = {"start": time.perf_counter(), "dsp": 0.0}
        for burst in listen(source, listener, args, seconds):
            print(summary(conclude(burst, listener, args, source.describe(), seconds)), flush=True)


def annotation(frame: ReceivedFrame, fmt: FrameFormat) -> tuple[int, int, str]:
    """First sample, number of samples and name of a frame, for a recording."""
    header = frame.header
    name = f"burst {header.burst_id} frame {header.frame}" + (" without its preamble" if frame.supplement else "")
    return frame.start, frame_samples(header, fmt), name


def main(argv=None) -> int:
    parser = CommandParser(prog="receive", description=__doc__, epilog="radio addresses:\n" + ADDRESS_HELP)
    add_receiver_arguments(parser)
    add_architecture_argument(parser)
    radio = add_radio_arguments(parser, sending=False)
    add_bench_arguments(radio)
    radio.add_argument(
        "--max-cfo-hz", type=float, metavar="F", help="carrier offsets searched (default: 0.06 of the rate)"
    )
    radio.add_argument(
        "--timeout-s", type=float, default=30.0, metavar="T", help="give up after so long without a frame"
    )
    radio.add_argument(
        "--cycles", type=int, default=16, metavar="K", help="of an endless burst, combine so many cycles"
    )
    radio.add_argument("--follow", action="store_true", help="go on listening; report again as cycles or models arrive")
    args = parser.parse_args(argv)
    return run_command(parser, lambda: (print_check if args.check else receive)(args))


def _complete(burst: BurstCombiner | None) -> bool:
    return burst is not None and burst.complete and burst.manifest() is not None


def _describe(name: str, widths: tuple[int, ...]) -> str:
    return name + (f" of widths {', '.join(map(str, widths))}" if widths else "")


def _why_nothing(burst, listener) -> str:
    samples = listener.receiver.num_samples
    if listener.receiver.other_versions:
        heard = ", ".join(map(str, sorted(listener.receiver.other_versions)))
        return (
            f"frames of format version {heard} in {samples} samples, this program speaks {VERSION}; "
            "use the sender's version"
        )
    if burst is None:
        return f"no frame in {samples} samples; check carrier, rate and gain, and that the sender is on"
    return (
        f"{len(burst.heard)} of {burst.header.num_frames} frames in {samples} samples, too few or too weak for the "
        "manifest; listen for more cycles or raise the signal"
    )


def _warnings(listener) -> list[str]:
    warnings = []
    if listener.receiver.num_not_finite:
        warnings.append(f"{listener.receiver.num_not_finite} samples were not finite numbers and count as 0")
    if len(listener.bursts) > 1:
        warnings.append(f"{len(listener.bursts)} different bursts were heard")
    return warnings


if __name__ == "__main__":
    sys.exit(main())
