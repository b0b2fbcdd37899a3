"""Training in images a second: each shipped recipe alone, and two at once, each a process of one thread.

The recipes are those of the shipped network and of CIFAR-10's, without teacher and nested networks; the images are
random, as what a step costs does not depend on them. Two side by side take no longer than one after the other where
their wall time is at most twice that of one alone. Where the processor has bfloat16, the same with `--bf16`.
"""

import time
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from statistics import median

import torch

from airnet_sdr.dsp.host.machine import multiplies_bfloat16
from airnet_sdr.models.batches import as_examples
from airnet_sdr.models.train_config import TrainConfig
from airnet_sdr.models.trainer import Trainer
from airnet_sdr.sim.benchmarks.measure import BenchConfig, Measure

SHAPES = {"fashion": (1, 28, 28), "cifar": (3, 32, 32)}  # of the images of each architecture
BATCHES = 10
PATIENCE_S = 600.0


def take_measures(config: BenchConfig) -> list[Measure]:
    """Of each architecture: images a second alone and two at once, and the time of two over one after the other."""
    archs = ("fashion",) if config.quick else tuple(SHAPES)
    rounds, batches = (1, 2) if config.quick else (5, BATCHES)
    native = not config.quick and multiplies_bfloat16()
    recipes = [TrainConfig(model=arch, bf16=bf16) for arch in archs for bf16 in ((False, True) if native else (False,))]
    return [measure for recipe in recipes for measure in compare(recipe, rounds, batches)]


def compare(recipe: TrainConfig, rounds: int, batches: int) -> list[Measure]:
    """One training alone, then two at once, in turn, so that other load meets both alike."""
    what = f"training {recipe.model}{' in bfloat16' if recipe.bf16 else ''}, one thread each"
    trials = f"{rounds} runs of {batches} batches"
    alone, both = [], []
    for _ in range(rounds):
        alone += seconds_of(recipe, batches, 1)
        both.append(max(seconds_of(recipe, batches, 2)))
    images = batches * recipe.batch_size
    one, two = images / median(alone), 2 * images / median(both)
    return [
        Measure(f"{what}: alone", one, "images/s", trials=trials),
        Measure(f"{what}: two at once, together", two, "images/s", trials=trials),
        Measure(f"{what}: two at once over one after the other", one / two, "× the time", 1.0, True, trials),
    ]


_start: Barrier  # of each process of a pool: where it waits for the others


def seconds_of(recipe: TrainConfig, batches: int, num: int) -> list[float]:
    """Wall time of ``batches`` in each of ``num`` trainings, which begin together, every one a process."""
    context = get_context("spawn")
    start = context.Barrier(num)
    with context.Pool(num, _keep, (start,)) as pool:
        return pool.starmap_async(train, [(recipe, batches)] * num, chunksize=1).get(PATIENCE_S)


def train(recipe: TrainConfig, batches: int) -> float:
    """Seconds of one pass over that many batches of random images, in one thread, after a first one that warms up."""
    torch.set_num_threads(1)
    rng = torch.Generator().manual_seed(recipe.seed)
    num = batches * recipe.batch_size
    images = torch.randint(256, (num, *SHAPES[recipe.model]), generator=rng, dtype=torch.uint8)
    labels = torch.randint(10, (num,), generator=rng)
    trainer = Trainer(recipe)
    warm = 2 * recipe.batch_size
    trainer.train_epoch(as_examples((images[:warm], labels[:warm])))
    _start.wait(PATIENCE_S)
    started = time.perf_counter()
    trainer.train_epoch(as_examples((images, labels)))
    return time.perf_counter() - started


def _keep(start) -> None:
    """Every process of the pool knows where to wait for the others."""
    global _start  # noqa: PLW0603 a barrier is handed on at a process's start alone
    _start = start
