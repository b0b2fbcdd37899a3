"""Memory that was freed: kept for the next block of samples, or given back to the system, where glibc is."""

import contextlib
import ctypes
import time

LEAST_BYTES = 1 << 25
OFTEN_S = 20.0
KEPT_BYTES, STEP_BYTES = 1 << 28, 1 << 26  # of the heap: as much stays when it is freed, and it grows by steps
TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD, ARENA_MAX = -1, -2, -3, -8  # of mallopt(3)

_given = {"at": time.monotonic()}


def keep_for_blocks() -> None:
    """Have arrays of less than 32 MiB taken from the heap, of which up to 256 MiB stay when they are freed.

    With glibc's own limits each block of samples is received in pages that are new and must be zeroed, a tenth of the
    time of a receiver of one thread and a quarter of two: they wait for one another where pages come and go. All
    threads have one heap: of their own ones, each would keep what it needed most, and grow until the peaks of all have
    met.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(ARENA_MAX, 1)
        mallopt(MMAP_THRESHOLD, LEAST_BYTES)
        mallopt(TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(TOP_PAD, STEP_BYTES)


def give_back(freed: int) -> None:
    """Give freed memory back to the system, where its C library can (glibc): if it is ``freed`` bytes, LEAST_BYTES or
    more, or after 20 seconds, so that what is left between small networks does not grow.

    Fewer are better kept for the next burst: pages that come back from the system are zeroed anew. Of large networks
    glibc keeps all there is: it takes tensors of some megabytes from its heap once a few were freed, and keeps it.
    """
    if freed < LEAST_BYTES and time.monotonic() - _given["at"] < OFTEN_S:
        return
    _given["at"] = time.monotonic()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
