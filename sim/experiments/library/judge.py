"""How the networks of an experiment are judged: by the loss on examples held back, and by the test's headline.

Networks and plans are selected by the loss on training examples that no network was trained on (`Task.held_back`), the
less the better, never on test examples. Results are the headline on the test data: top-1 accuracy, or the first metric
of the network's own `evaluate`.
"""

import dataclasses

from torch import nn

from airnet_sdr.models.batch_norm import recompute_statistics
from airnet_sdr.models.batches import Examples
from airnet_sdr.models.beside import CodedState, State
from airnet_sdr.models.nets import DATASETS, build
from airnet_sdr.models.task import Task, evaluating, task_of
from airnet_sdr.rx.restore import restore_statistics

ACCURACY = "accuracy"


@dataclasses.dataclass(frozen=True, eq=False)
class Judge:
    """Called with a rebuilt network it returns the loss, or, for a test, the headline on the examples.

    Batch norm's statistics are as the sender's state predicts them, as in the receiver; without one, or with
    `measures`, they are measured on these examples without labels.
    """

    task: Task
    examples: Examples | None
    is_test: bool = False
    data_dir: str | None = None
    measures: bool = False

    def __call__(self, module: nn.Module, state: CodedState | State | None = None) -> float:
        """The number by which a received network is judged, whose sender's ``state`` arrived."""
        is_restored = restore_statistics(module, state)
        if self.examples is not None and (self.measures or not is_restored):
            recompute_statistics(module, self.examples, self.task.run)
        if not self.is_test:
            return self.task.mean_loss(module, self.examples)
        return self.headline(module)[1]

    def headline(self, module: nn.Module) -> tuple[str, float]:
        """Name and value of the test's first metric; top-1 accuracy without metrics."""
        metrics = self.task.metrics(module, self.data_dir)
        if metrics is not None:
            return next(iter(metrics.items()))
        with evaluating(module):
            return ACCURACY, self.task.top1(module, self.examples)


def judge_by_loss(arch: str, num: int | None = None, data_dir: str | None = None) -> Judge:
    """By the loss on the first ``num`` of the examples held back. Raises InputError without training data."""
    task = task_of(DATASETS.get(arch, "none"))
    return Judge(task, task.held_back(num, data_dir), data_dir=data_dir)


def judge_by_test(arch: str, num: int | None = None, data_dir: str | None = None, measures: bool = False) -> Judge:
    """By the headline on the test examples, the first ``num`` of them where there is no `evaluate` of their own."""
    task = task_of(DATASETS.get(arch, "none"))
    examples = None if task.load_data is None else task.examples("test", data_dir).first(num)
    return Judge(task, examples, True, data_dir, measures)


def untrained(arch: str, judge: Judge) -> tuple[str, float]:
    """Name and value of the headline of a network of random weights, which stands for one that was lost."""
    return judge.headline(build(arch))
