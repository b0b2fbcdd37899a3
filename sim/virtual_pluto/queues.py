"""The queues of a board: what was received and not fetched, what was pushed and not sent."""

from collections import deque

import numpy as np


class RxClient:
    """One open receive buffer: a queue of words, as long as the kernel's buffers."""

    def __init__(self, num_samples: int, num_buffers: int):
        self.num_samples, self.capacity = num_samples, num_samples * num_buffers
        self._blocks: deque[np.ndarray] = deque()
        self.size = 0

    def put(self, words: np.ndarray) -> int:
        """Take words (n, 2) as far as there is room; how many are lost."""
        room = min(len(words), max(0, self.capacity - self.size))
        if room:
            self._blocks.append(words[:room])
            self.size += room
        return len(words) - room

    def take(self, num: int) -> np.ndarray:
        """The oldest num words (num, 2) int16, which must be there."""
        parts, left = [], num
        while left:
            block = self._blocks[0]
            parts.append(block[:left])
            if len(block) > left:
                self._blocks[0] = block[left:]
            else:
                self._blocks.popleft()
            left -= len(parts[-1])
        self.size -= num
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def drop(self, num: int) -> None:
        """Lose the oldest samples without a trace."""
        self.take(min(num, self.size))


class TxBuffer:
    """An open transmit buffer: one block for ever when it is cyclic, else a queue as long as the kernel's buffers."""

    def __init__(self, num_samples: int, cyclic: bool, num_buffers: int):
        self.cyclic, self.num_samples = cyclic, num_samples
        self._queue = RxClient(num_samples, num_buffers)
        self._loop: np.ndarray | None = None
        self._position = 0
        self.started = self.late = False

    @property
    def size(self) -> int:
        """Samples waiting to be sent."""
        return self._queue.size

    @property
    def capacity(self) -> int:
        """Samples of all its kernel buffers."""
        return self.num_samples if self.cyclic else self._queue.capacity

    def has_room(self) -> bool:
        """Whether a block would fit."""
        return self.cyclic or self._queue.size + self.num_samples <= self._queue.capacity

    def put(self, words: np.ndarray) -> None:
        """A block (n, 2) int16 of the client's."""
        self.started, self.late = True, False
        if self.cyclic:
            self._loop, self._position = words, 0
        else:
            self._queue.put(words)

    def take(self, num: int) -> tuple[np.ndarray | None, int]:
        """The next words (num, 2), zeros where the client was late, None for all zeros; and how many are zeros."""
        if self.cyclic:
            if self._loop is None or not len(self._loop):
                return None, num
            parts, left = [], num
            while left:
                parts.append(self._loop[self._position :][:left])
                left -= len(parts[-1])
                self._position = (self._position + len(parts[-1])) % len(self._loop)
            return (parts[0] if len(parts) == 1 else np.concatenate(parts)), 0
        there = min(num, self._queue.size)
        missing = num - there
        if not there:
            return None, missing
        words = self._queue.take(there)
        return np.concatenate([words, np.zeros((missing, 2), np.int16)]) if missing else words, missing
