"""What a long command is at: a bar on standard error where that is a terminal; a loop also says it in a log."""

import sys
import time
from collections.abc import Iterator, Sequence
from typing import Self, TypeVar

Item = TypeVar("Item")
LINE_S = 30.0  # between the lines of a log


class Progress:
    """A bar of one stage after the other; a context manager, at whose end it is gone."""

    def __init__(self):
        self._bar, self._task = None, None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from rich.console import Console  # here, as a help text needs neither
            from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            columns = (
                SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(),
                TextColumn("left"), TimeRemainingColumn(),
            )  # fmt: skip
            console = Console(stderr=True)
            self._bar = Bar(*columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False)
            self._bar.start()
        return self

    def __exit__(self, exc_type, exc, traceback) -> None:
        if self._bar is not None:
            self._bar.stop()

    def stage(self, title: str, total: int | None = None) -> None:
        """The next stage, of ``total`` steps; None: nobody knows how many."""
        if self._bar is not None:
            if self._task is not None:
                self._bar.remove_task(self._task)
            self._task = self._bar.add_task(title, total=total)

    def advance(self, num: int = 1, total: int | None = None) -> None:
        """``num`` more steps are done, of ``total``, where that is known only now."""
        if self._task is not None:
            self._bar.update(self._task, advance=num, **({} if total is None else {"total": total}))


def track(items: Sequence[Item], description: str) -> Iterator[Item]:
    """Yield the items, and show on standard error how many are done and the time left; in a log, in a line at times."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import track as bar

        yield from bar(items, description, console=Console(stderr=True))
        return
    started = shown = time.monotonic()
    for number, item in enumerate(items):
        yield item
        now = time.monotonic()
        if now - shown >= LINE_S:
            shown, done = now, number + 1
            left_s = (now - started) * (len(items) - done) / done
            print(f"{description}: {done} of {len(items)}, {left_s / 60:.0f} min left", file=sys.stderr, flush=True)
