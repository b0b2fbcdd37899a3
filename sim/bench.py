"""The benchmarks, each against a bound or a peer measured in the same run: `python sim/bench.py [--only SECTION …]`.

loss: implementation loss over the airs of the receiver's contract · stress: the same where something breaks ·
detection: missed and false frames, header and manifest errors · speed: samples a second beside liquid's
ofdmflexframerx, and where the time goes · scale: memory and speed over a long stream · flowgraph: GNU Radio's air,
socket to socket · realtime: virtual PlutoSDRs at 5 MS/s for a minute. Prints one table, writes
out/bench/SECTION.json.
"""

import importlib
import os
import shlex
import sys
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[1] / "src")
    from airnet_sdr.dsp.host import environment

    environment.set_defaults()
    for library in ("OMP", "OPENBLAS"):  # the threads that are counted are the link's own; workers inherit this
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")

from rich.console import Console

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.host.command import CommandParser, run_command
from airnet_sdr.sim.benchmarks.measure import Measure, Options, table, write

SECTIONS = ("loss", "stress", "detection", "speed", "scale", "flowgraph", "realtime")


def bench(sections, options: Options, out: Path, command: str) -> list[Measure]:
    """Run the sections, write each as it ends, and return all measures."""
    measures = []
    console = Console(stderr=True)
    for name in sections:
        with console.status(f"{name} …"):
            found = importlib.import_module(f"airnet_sdr.sim.benchmarks.{name}").run(options)
        write(out / f"{name}.json", command, found)
        measures += found
    return measures


def main(argv=None) -> int:
    parser = CommandParser(prog="bench", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS, metavar="SECTION", help="some of them")
    parser.add_argument("--model", default=Options.model, metavar="NAME|PATH", help="whose weights are sent for losses")
    parser.add_argument("--seeds", type=int, metavar="N", help=f"trials of a row of losses (default {Options.seeds})")
    parser.add_argument("--workers", type=int, default=Options.workers, metavar="N", help="processes of a section")
    parser.add_argument("--weights", type=float, metavar="N", help="of the random network of speed and scale")
    parser.add_argument("--scale-samples", type=float, metavar="N", help="length of the stream of scale")
    parser.add_argument("--quick", action="store_true", help="few trials, for tests: about a minute for everything")
    parser.add_argument("--out", type=Path, default=Path("out/bench"), metavar="DIR")
    args = parser.parse_args(argv)
    command = shlex.join(["python", "sim/bench.py", *(sys.argv[1:] if argv is None else argv)])

    def run() -> None:
        default = Options(seeds=2, num_weights=500_000, scale_samples=4_000_000) if args.quick else Options()
        options = Options(
            model=args.model,
            seeds=default.seeds if args.seeds is None else args.seeds,
            workers=args.workers,
            num_weights=default.num_weights if args.weights is None else int(args.weights),
            scale_samples=default.scale_samples if args.scale_samples is None else int(args.scale_samples),
            quick=args.quick,
        )
        if min(options.seeds, options.workers, options.num_weights, options.scale_samples) < 1:
            raise InputError("bench: --seeds, --workers, --weights and --scale-samples must be at least 1")
        Console(width=None if sys.stdout.isatty() else 200).print(table(bench(args.only, options, args.out, command)))

    return run_command(parser, run)


if __name__ == "__main__":
    sys.exit(main())
