"""Evaluation beside reception: rebuilds and evaluates the newest burst of each scheme, in the caller's thread."""

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from airnet_sdr.dsp.errors import LinkError, RadioError, one_line
from airnet_sdr.dsp.frame import Header
from airnet_sdr.dsp.host.run import Run
from airnet_sdr.models.batch_norm import recompute_statistics, statistics_of
from airnet_sdr.models.data import LOADERS, load
from airnet_sdr.models.evaluate import logits
from airnet_sdr.models.task import task_of, top1
from airnet_sdr.rx.combine import BurstCombiner
from airnet_sdr.rx.config import ReceiveConfig
from airnet_sdr.rx.explain import as_link_error
from airnet_sdr.rx.listen import Listener
from airnet_sdr.rx.live_message import MAX_BYTES, MAX_HEADER_BYTES
from airnet_sdr.rx.receiver import Reception, evaluate_burst

Examples = tuple[Tensor, Tensor]  # inputs and labels

NUM_PICTURES = 12  # test images whose guesses are shown
MAX_PICTURE_BYTES = MAX_BYTES - MAX_HEADER_BYTES - (1 << 10)  # of them
MAX_LAYERS = 64  # of a report that is shown
MAX_ERROR = 300  # characters
MAX_WAITING = 4  # schemes, whose names are the senders'


@dataclasses.dataclass(frozen=True)
class Result:
    """An evaluated network for the page; `reception` is None where nothing could be rebuilt."""

    values: dict
    arrays: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    reception: Reception | None = None

    def failed(self, error: Exception) -> "Result":
        """In its place: which burst it was of, and the error."""
        about = {name: self.values[name] for name in ("scheme", "burst", "cycles", "time")}
        return Result(about | {"error": one_line(error)[:MAX_ERROR]})


class Evaluator:
    """Takes bursts with `submit` in one thread, and gives their `Result`s to the thread that iterates over it.

    Of each scheme only the newest burst waits, and of few schemes. A digital network that has arrived is not decoded
    again, nor a burst that cannot be rebuilt.
    """

    def __init__(
        self,
        listener: Listener,
        config: ReceiveConfig,
        num_images: int,
        describe: Callable[[], dict],
        run: Run = Run(),
    ):
        self._run = run
        self._listener, self._config, self._num_images, self._describe = listener, config, num_images, describe
        self._started = time.perf_counter()
        self._changed = threading.Condition()
        # bursts and their copies by scheme, the one that has waited longest first
        self._waiting: dict[str, tuple[BurstCombiner, BurstCombiner]] = {}
        self._whole: dict[str, Header] = {}  # of each scheme, the burst that arrived whole
        self._finished = False
        self.num_rebuilt = 0

    def submit(self, burst: BurstCombiner) -> None:
        """Take a burst for evaluation, in place of an older one of its scheme."""
        try:
            manifest = burst.manifest()
        except LinkError:
            burst.refused = True
            return
        scheme = "unknown" if manifest is None else manifest.scheme
        if self._whole.get(scheme) == burst.header:
            return
        copied = burst.snapshot() if burst.complete else burst  # others come at the end, when no frame is added
        with self._changed:
            self._waiting[scheme] = burst, copied
            if len(self._waiting) > MAX_WAITING:
                del self._waiting[next(iter(self._waiting))]
            self._changed.notify()

    def finish(self) -> None:
        """No more bursts will come."""
        with self._changed:
            self._finished = True
            self._changed.notify()

    def abandon(self) -> None:
        """Nothing more is wanted, neither what waits."""
        with self._changed:
            self._waiting.clear()
            self._finished = True
            self._changed.notify()

    def __iter__(self) -> Iterator[Result]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._finished)
                if not self._waiting:
                    return
                scheme = next(iter(self._waiting))
                burst, copied = self._waiting.pop(scheme)
            yield self._evaluate(scheme, burst, copied)

    def _evaluate(self, scheme: str, burst: BurstCombiner, copied: BurstCombiner) -> Result:
        """Evaluate the copy, and note a failure on the burst."""
        about = {"scheme": scheme, "burst": burst.header.burst_id, "cycles": copied.cycles, "time": time.time()}
        try:
            config, examples = self._how(copied)
            reception = evaluate_burst(copied, self._listener, config, self._describe(), self._started, run=self._run)
        except RadioError as error:  # not the burst's
            return Result(about).failed(error)
        except Exception as reason:  # a network of the user's own may raise anything
            failure = as_link_error(reason)
            burst.note_failure(failure, copied.num_received)
            return Result(about).failed(failure)
        self.num_rebuilt += 1
        if reception.report["part"] == scheme == "digital":
            self._whole[scheme] = burst.header
        arrays: dict[str, np.ndarray] = {}
        if examples is not None:
            try:
                arrays = judge(reception, *examples)
                about["images"] = len(examples[0])
            except Exception as reason:  # the manifest may name pictures that the network does not take
                reception = reception.with_failure(reason)
        if reception.failure is not None:
            about["error"] = one_line(reception.failure)[:MAX_ERROR]
        report = {**reception.report, "layers": reception.report["layers"][:MAX_LAYERS]}
        about |= {"accuracy": report["accuracy"], "accuracy_sent": reception.card.accuracy, "report": report}
        return Result(about, arrays, reception)

    def _how(self, burst: BurstCombiner) -> tuple[ReceiveConfig, Examples | None]:
        """How to evaluate a burst: the receiver's config, and the first test examples where these alone will do."""
        manifest = burst.manifest()
        dataset = self._config.evaluate or (None if manifest is None else manifest.card.dataset)
        try:
            examples = first_examples(dataset, self._config.data_dir, self._num_images)
        except Exception:  # the receiver's own evaluation meets it again, and says so
            examples = None
        return self._config if examples is None else dataclasses.replace(self._config, evaluate="none"), examples


def first_examples(dataset: str | None, data_dir: str | None, num: int) -> Examples | None:
    """The first test inputs (n, ...) of a classifier and their labels, int (n,); None where the data are others."""
    if dataset not in LOADERS or task_of(dataset).loss is not None:
        return None
    found = load(dataset, "test", data_dir)
    if not isinstance(found, (tuple, list)) or len(found) != 2 or not all(isinstance(x, Tensor) for x in found):
        return None
    inputs, labels = found
    if inputs.ndim < 2 or labels.ndim != 1 or labels.is_floating_point() or not 0 < len(inputs) == len(labels):
        return None
    return inputs[:num], labels[:num]


@torch.inference_mode()
def judge(reception: Reception, inputs: Tensor, labels: Tensor) -> dict[str, np.ndarray]:
    """Evaluate on these examples, and add the accuracy to the report.

    Batch norm statistics are measured on them where the sender sent none. Returns what of them the page shows.
    """
    network, report = reception.network, reception.report
    if statistics_of(network) and report.get("batch_norm") is None:
        report["batch_norm_inputs"] = recompute_statistics(network, inputs)
        report["warnings"] = [text for text in report["warnings"] if not text.startswith("batch norm")]
    output = logits(network, inputs)
    report["accuracy"] = top1(output, labels)
    return pictures_of(inputs, labels, output)


def pictures_of(inputs: Tensor, labels: Tensor, output: Tensor) -> dict[str, np.ndarray]:
    """Of the first examples: pictures uint8 (N, C, H, W), labels, guesses and confidence (softmax, of 255), each uint8
    (N,), as many of `NUM_PICTURES` as a message holds; {} where the inputs are no pictures."""
    is_picture = inputs.dtype == torch.uint8 and inputs.ndim == 4
    num = min(NUM_PICTURES, MAX_PICTURE_BYTES // max(inputs[0].numel(), 1)) if is_picture else 0
    if not num:
        return {}
    confidence, guesses = output[:num].softmax(dim=1).nan_to_num().max(dim=1)
    shown = {"pictures": inputs[:num], "labels": labels[:num], "guesses": guesses, "confidence": 255 * confidence}
    return {name: value.numpy().astype(np.uint8) for name, value in shown.items()}
