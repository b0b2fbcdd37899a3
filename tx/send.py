"""Send a network's weights over a radio as analog IQ samples: `python tx/send.py --model fashion --radio ADDRESS`."""

import argparse
import sys
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[1] / "src")

import numpy as np

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.host.command import CommandParser, run_command
from airnet_sdr.dsp.radio import ADDRESS_HELP, open_sink, parse
from airnet_sdr.dsp.radio.options import (
    add_bench_arguments,
    add_radio_arguments,
    check_pluto,
    print_check,
    radio_config,
)
from airnet_sdr.dsp.radio.record import recording
from airnet_sdr.dsp.units import db, power
from airnet_sdr.models import checkpoint as checkpoints
from airnet_sdr.models.digital.channel_code import MODULATIONS
from airnet_sdr.models.packing import to_vectors
from airnet_sdr.models.register import add_architecture_argument, use_architecture
from airnet_sdr.models.sensitivity import find_sensitivity
from airnet_sdr.tx.pipeline import Burst, modulate, prepare, prepare_coded, prepare_hybrid, transmission
from airnet_sdr.tx.plan import PlanConfig, code, pick, pick_coded, protect, refine


def add_sender_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that decide what is sent, shared with the simulations."""
    group = parser.add_argument_group("sender")
    group.add_argument(
        "--model",
        metavar="NAME|PATH.safetensors",
        help="a shipped model or a checkpoint; digital: or a folder of them, trained with --bits, to choose from",
    )
    group.add_argument(
        "--scheme",
        choices=["analog", "digital", "hybrid"],
        default="analog",
        help="how the weights travel: as they are, compressed and coded, or coded and what that leaves as it is",
    )
    group.add_argument(
        "--digital-share", type=float, metavar="F",
        help="hybrid: of the payload, for its digital base (default: what the bits it was trained for need)",
    )  # fmt: skip
    group.add_argument(
        "--uep", choices=["none", "size", "auto"], help="unequal error protection; auto where sensitivities are known"
    )
    group.add_argument(
        "--expansion",
        choices=["none", "auto"],
        help="curves instead of copies where they do more; by default with unequal error protection only",
    )
    group.add_argument("--copies", type=int, default=1, metavar="K", help="times every weight is sent (mean, with UEP)")
    group.add_argument("--payload-uses", type=int, metavar="N", help="budget of payload symbols in one cycle")
    group.add_argument(
        "--channel-uses", type=int, metavar="N", help="budget of everything on the air in one cycle, in samples"
    )
    group.add_argument(
        "--cycles", type=int, default=1, metavar="K", help="how often the burst is sent; 0 until stopped"
    )
    group.add_argument("--seed", type=int, default=0, metavar="S", help="the one seed of the run")


def make_burst(args, plan_snr_db: float) -> Burst:
    """Load the checkpoint, plan its protection and map it to symbols."""
    if args.model is None:
        raise InputError(f"--model is missing; try one of: {', '.join(checkpoints.shipped())}, or PATH.safetensors")
    if args.cycles < 0:
        raise InputError(f"--cycles must be 0 (until stopped) or more; got {args.cycles}")
    if args.scheme == "digital" and Path(args.model).is_dir():
        return make_digital_burst(args, plan_snr_db)
    checkpoint = checkpoints.load(args.model, use_architecture(args))
    if args.scheme == "hybrid":
        return make_hybrid_burst(args, checkpoint, plan_snr_db)
    sensitivity = None if args.uep == "none" else find_sensitivity(args.model)
    uep = args.uep or ("size" if "members" in checkpoint.metadata else "none" if sensitivity is None else "auto")
    config = PlanConfig(uep, args.copies, plan_snr_db, args.payload_uses, args.channel_uses, args.expansion)
    checkpoint, config = pick(checkpoint, config)
    what = checkpoint.arch, checkpoint.dataset, checkpoint.accuracy
    if args.scheme == "digital":
        coded = code(checkpoint, config, find_sensitivity(args.model))
        return prepare_coded(*what, *coded, args.seed, widths=checkpoint.widths)
    protection = protect(checkpoint, config, sensitivity)
    return prepare(*what, to_vectors(checkpoint.tensors), protection, args.seed, widths=checkpoint.widths)


def make_hybrid_burst(args, checkpoint, plan_snr_db: float) -> Burst:
    """A digital base with an analog refinement."""
    budgets = args.payload_uses, args.channel_uses, args.expansion, args.digital_share
    config = PlanConfig(args.uep or "size", args.copies, plan_snr_db, *budgets)
    what = checkpoint.arch, checkpoint.dataset, checkpoint.accuracy
    return prepare_hybrid(*what, refine(checkpoint, config), args.seed, widths=checkpoint.widths)


def make_digital_burst(args, plan_snr_db: float) -> Burst:
    """Of a folder's networks, trained for different numbers of bits, the one for this channel and budget."""
    architecture = use_architecture(args)
    networks = [checkpoints.load(path, architecture) for path in sorted(Path(args.model).glob("*.safetensors"))]
    config = PlanConfig("none", args.copies, plan_snr_db, args.payload_uses, args.channel_uses)
    checkpoint, config = pick_coded(networks, config)
    what = checkpoint.arch, checkpoint.dataset, checkpoint.accuracy
    return prepare_coded(*what, *code(checkpoint, config, None), args.seed, widths=checkpoint.widths)


def describe(burst: Burst) -> str:
    """Two lines on what is sent, of a hybrid three."""
    frames = f"{burst.header.num_frames} frames, {burst.num_samples} samples a cycle"
    coded, plans, stream = burst.manifest.coded, burst.manifest.tensors, burst.stream
    digital, refines = "", ""
    if coded is not None:
        digital = (
            f"{burst.manifest.model}: {coded.num_bytes} bytes on {coded.num_symbols} symbols, "
            f"{MODULATIONS[coded.bits_per_symbol]}, code rate {coded.block.rate:.2f}, {coded.num_blocks} code blocks\n"
        )
        if not plans:
            return digital + frames
        stream, refines = stream[coded.num_symbols :], ", what that leaves"
    uses, powers = [plan.uses for plan in plans], [plan.power_db for plan in plans]
    curved = sum(plan.curve is not None for plan in plans)
    return (
        f"{digital}{burst.manifest.model}{refines}: {stream.size} payload symbols of mean power "
        f"{db(power(stream)):.2f} dB, {min(uses)} to {max(uses)} a pair of weights, "
        f"{min(powers):g} to {max(powers):g} dB a tensor, {curved} of {len(plans)} along curves\n" + frames
    )


def main(argv=None) -> int:
    parser = CommandParser(prog="send", description=__doc__, epilog="radio addresses:\n" + ADDRESS_HELP)
    add_sender_arguments(parser)
    add_architecture_argument(parser)
    parser.add_argument("--list", action="store_true", help="list the shipped models")
    parser.add_argument(
        "--snr-db", type=float, default=10.0, metavar="D", help="SNR per payload symbol the plan is for"
    )
    radio = add_radio_arguments(parser, sending=True)
    add_bench_arguments(radio)
    radio.add_argument("--timeout-s", type=float, default=60.0, metavar="T", help="how long to wait for a receiver")
    radio.add_argument("--mute", action="store_true", help="PlutoSDR: silence the board, after a crash say, and end")
    args = parser.parse_args(argv)
    chosen = {"list": lambda _: list_models(), "check": print_check, "mute": mute}
    work = next((function for name, function in chosen.items() if getattr(args, name)), send)
    return run_command(parser, lambda: work(args))


def list_models() -> None:
    """Print a line on each shipped model."""
    for name, path in checkpoints.shipped().items():
        model = checkpoints.load(path)
        numel = sum(tensor.size for tensor in model.tensors.values())
        print(f"{name:16} {numel:>10,} weights  {100 * model.accuracy:.2f} % on {model.dataset}")


def send(args) -> None:
    """Send what the options say."""
    if args.radio is None:
        print("radio addresses:\n" + ADDRESS_HELP)
        raise InputError("--radio is missing; give one of the addresses above")
    sink = open_sink(args.radio, radio_config(args))
    burst = make_burst(args, args.snr_db)
    with sink:
        print(describe(burst), flush=True)
        cyclic = args.cycles == 0 and burst.num_samples <= sink.cyclic_samples
        if cyclic:
            sink.repeat(np.concatenate(list(modulate(burst))))
        with recording(args.record, sink) as record:
            for samples, label in transmission(burst, 1 if cyclic else args.cycles) if record or not cyclic else ():
                if record:
                    record.send(samples, label)
                if not cyclic:
                    sink.send(samples, label)
        if cyclic:
            print("on the air until stopped", flush=True)
        while cyclic:
            sink.watch(1.0)
    done = sink.describe()
    print(f"sent {done['samples']} samples to {done['address']}, {done['clipped']} values clipped")
    if done.get("underflow"):
        print("warning: the board ran dry (underflow); lower --rate-hz or raise --buffer-samples")


def mute(args) -> None:
    """Silence the board at the address."""
    check_pluto(args.radio, "--mute")
    from airnet_sdr.dsp.radio.pluto import silence

    print(f"muted: {silence(parse(args.radio))}")


if __name__ == "__main__":
    sys.exit(main())
