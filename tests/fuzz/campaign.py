"""A long run: rounds of inputs for every target, counted and kept in a folder, from which the next run goes on.

`counts.json` has, for each target, the inputs so far, how many were accepted, the seconds of processor time, the
slowest input and the kinds of outcome; `corpus/TARGET` an input of each kind of outcome; `findings/TARGET` the inputs
that broke a promise, each with its traceback. Inputs follow from the target, the round and the seed.
"""

import dataclasses
import hashlib
import json
import random
import time
import traceback
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from airnet_sdr.dsp.host.files import make_folder, write_whole
from airnet_sdr.dsp.host.options import check_fields, option
from airnet_sdr.sim.benchmarks.processes import peak_bytes
from airnet_sdr.tests.fuzz.link import attack
from airnet_sdr.tests.fuzz.targets import TARGETS, Target

ROUND_INPUTS = 20_000  # of all parsers together, at most...
ROUND_ATTACKS = 50  # ...and of the receiver
WARM_UP = 12  # receptions that do not count
MOST_KINDS = 4000  # inputs kept a target
PARSER_S, RECEIVER_S = 1.0, 10.0  # processor time of one input at most
MEMORY_MB = 1024  # by which the process may grow in a run


@dataclasses.dataclass(frozen=True)
class FuzzConfig:
    """How long to attack, and where inputs and counts are kept."""

    out: str = option("out/fuzz", "folder of counts, corpus and findings", metavar="DIR")
    inputs: int = option(100_000, "inputs of the parsers in this run", 0, 2**40)
    attacks: int = option(250, "receptions of hostile samples in this run", 0, 2**40)
    seed: int = option(1, "seed of the inputs", 0, 2**31)

    def __post_init__(self):
        check_fields(self)


class Account:
    """What is known of one target, in the folder."""

    def __init__(self, folder: Path, name: str):
        self.name, self.place = name, name.replace(" ", "-")
        self.folder = folder
        self.counts = {"inputs": 0, "accepted": 0, "findings": 0, "seconds": 0.0, "slowest_s": 0.0, "rounds": 0}
        self.kinds: set[str] = set()
        known = folder / "corpus" / self.place
        self.kinds = {path.name for path in known.iterdir()} if known.is_dir() else set()

    def record(self, kind: tuple, data: bytes) -> None:
        """Keep the input where it is the first of its kind."""
        name = hashlib.sha1(repr(kind).encode()).hexdigest()[:16]
        if name not in self.kinds and len(self.kinds) < MOST_KINDS:
            self.kinds.add(name)
            write_whole(self.folder / "corpus" / self.place / name, data)

    def finding(self, data: bytes, text: str) -> None:
        """Keep an input that broke a promise, and how."""
        self.counts["findings"] += 1
        path = self.folder / "findings" / self.place / hashlib.sha1(data).hexdigest()[:16]
        write_whole(path, data)
        write_whole(path.with_suffix(".txt"), text.encode())


def run(config: FuzzConfig, tell: Callable[[str], None] = lambda line: None) -> dict[str, dict]:
    """Attack for as many inputs as configured; returns the counts of all runs in the folder, by target."""
    folder = make_folder(config.out)
    counts = folder / "counts.json"
    before = json.loads(counts.read_text()) if counts.is_file() else {}
    accounts = {name: Account(folder, name) for name in (*(target.name for target in TARGETS), "receiver")}
    for name, account in accounts.items():
        account.counts |= before.get(name, {})
    for seed in range(WARM_UP if config.attacks else 0):
        attack(seed)  # compiles what is compiled at its first use, which is nobody's time
    rounds = max(-(-config.inputs // ROUND_INPUTS), -(-config.attacks // ROUND_ATTACKS))
    for number in range(rounds):
        inputs, attacks = (
            num * (number + 1) // rounds - num * number // rounds for num in (config.inputs, config.attacks)
        )
        for target in TARGETS if inputs else ():
            parse_round(target, accounts[target.name], config.seed, round(inputs * target.share) or 1)
        if attacks:
            attack_round(accounts["receiver"], config.seed, attacks)
        found = {name: {**account.counts, "kinds": len(account.kinds)} for name, account in accounts.items()}
        write_whole(counts, (json.dumps(found, indent=2) + "\n").encode())
        tell(summary(found))
    return found


def parse_round(target: Target, account: Account, seed: int, num: int) -> None:
    """One round of a parser."""
    rng = random.Random(f"{seed} {target.name} {account.counts['rounds']}")
    valid = list(target.seeds())
    inputs = (target.mutate(rng, rng.choice(valid), valid) for _ in range(num))
    _round(account, ((data, target.outcome) for data in inputs), PARSER_S)


def attack_round(account: Account, seed: int, num: int) -> None:
    """One round of the whole receiver."""
    first = zlib.crc32(f"{seed} {account.counts['rounds']}".encode()) << 20
    inputs = (str(first + i).encode() for i in range(num))
    _round(account, ((data, lambda number: (True, attack(int(number)))) for data in inputs), RECEIVER_S)


def _round(account: Account, inputs: Iterator[tuple[bytes, Callable]], most_s: float) -> None:
    counts, memory = account.counts, peak_bytes()
    for data, outcome in inputs:
        started = time.process_time()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                kind = outcome(data)
        except Exception:
            account.finding(data, traceback.format_exc())
            continue
        finally:
            counts["inputs"] += 1
        seconds = time.process_time() - started
        counts["accepted"] += kind[0] is True
        counts["seconds"] += seconds
        counts["slowest_s"] = max(counts["slowest_s"], seconds)
        if seconds > most_s:
            account.finding(data, f"took {seconds:.1f} s of processor time, {most_s:g} s are allowed")
        account.record(kind, data)
    counts["rounds"] += 1
    grown = (peak_bytes() - memory) / 2**20
    if grown > MEMORY_MB:
        account.finding(data, f"the process grew by {grown:.0f} MiB in one round, {MEMORY_MB} are allowed")


def summary(found: dict[str, dict]) -> str:
    """The counts as one line."""
    parsers = sum(counts["inputs"] for name, counts in found.items() if name != "receiver")
    findings = sum(counts["findings"] for counts in found.values())
    return f"{parsers:,} inputs of parsers, {found['receiver']['inputs']:,} receptions, {findings} findings"
