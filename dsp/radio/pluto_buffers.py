"""The buffers of a board: samples in and out of libiio, and calls that hang in it.

Blocking calls run in a thread of their own, so that Ctrl-C, SIGTERM and the watchdog come through while one hangs.
Buffers are destroyed before their context: the other way round libiio crashes. The DMA takes multiples of 4 samples;
the kernel has 256 MiB for all buffers together, which 4 of the largest would fill.
"""

import contextlib
import functools
import time

import numpy as np

from airnet_sdr.dsp.errors import RadioTimeoutError
from airnet_sdr.dsp.radio.native import Calls
from airnet_sdr.dsp.radio.pluto_context import LEFT_BEHIND_S, BoardContext
from airnet_sdr.dsp.radio.pluto_library import mapped

STATUS_REGISTER = 0x80000088  # each core, of the receiver and of the transmitter, has its own
RX_OVERFLOW, TX_UNDERFLOW = 4, 1
DMA_SAMPLES = 4
WAKE_S = 0.02


def whole(num_samples: int) -> int:
    """The next number of samples that the DMA takes."""
    return -(-num_samples // DMA_SAMPLES) * DMA_SAMPLES


class Buffers:
    """The receive and the transmit buffer of a board, of ``num_buffers`` kernel buffers each."""

    def __init__(self, context: BoardContext, num_buffers: int):
        self._context, self.num_buffers = context, num_buffers
        self._rx_buffer = None
        self._receiving, self._sending = Calls(), Calls()

    @property
    def _pluto(self):
        return self._context.pluto

    def start_receiving(self, num_samples: int, num_buffers: int, timeout_s: float) -> None:
        """The next refills give ``num_samples`` each, a multiple of 4; each may take libiio ``timeout_s``.

        libiio and the board take their timeouts when a buffer is made.
        """
        self._context.set_timeout(timeout_s)

        def start():
            self.destroy(self._rx_buffer)
            self._rx_buffer = None
            self._pluto.rx_destroy_buffer()
            self._pluto._rxadc.set_kernel_buffers_count(num_buffers)
            self._pluto.rx_buffer_size = num_samples
            self._pluto._rx_init_channels()
            self._rx_buffer = self._pluto._rxbuf

        self._context.ask("starting the reception", start)

    def refill(self, timeout_s: float) -> np.ndarray:
        """The next buffer, whole numbers as complex."""
        with mapped("receiving", self._context.uri):
            return self._in_buffer(self._receiving, self._pluto.rx, timeout_s, f"receiving from {self._context.uri}")

    def push(self, words: np.ndarray, cyclic: bool, timeout_s: float) -> None:
        """Whole numbers within ±32767 as complex (n,), n a multiple of 4, to the transmit buffer."""
        if self._pluto._txbuf is None:
            self._context.set_timeout(timeout_s)

            def prepare():
                self._pluto.tx_cyclic_buffer = cyclic
                self._pluto._txdac.set_kernel_buffers_count(1 if cyclic else self.num_buffers)

            self._context.ask("preparing to transmit", prepare)
        with mapped("transmitting", self._context.uri):
            push = functools.partial(self._pluto.tx, words)
            self._in_buffer(self._sending, push, timeout_s, f"transmitting to {self._context.uri}")

    def _in_buffer(self, calls, call, timeout_s, what):
        """A call that may hang in a buffer; one that does is woken here, or, after a signal, when the board closes."""
        try:
            return calls(call, timeout_s, what)
        except RadioTimeoutError:
            self.cancel(self._buffer_of(calls))
            raise

    def _buffer_of(self, calls):
        return self._rx_buffer if calls is self._receiving else self._pluto._txbuf

    def probe_transmitter(self) -> None:
        """Open the transmit buffer and close it again: RadioError where another program has it."""
        import iio

        def probe():
            self._pluto._txdac.set_kernel_buffers_count(1)
            for channel in ("voltage0", "voltage1"):
                self._pluto._txdac.find_channel(channel, True).enabled = True
            self.destroy(iio.Buffer(self._pluto._txdac, 1024, False))

        self._context.ask("transmitting", probe)

    def stop_receiving(self) -> None:
        """Destroy the receive buffer."""
        if self._leave(self._receiving):
            buffer, self._rx_buffer = self._rx_buffer, None
            self.destroy(buffer)
            self._pluto.rx_destroy_buffer()

    def stop_sending(self) -> None:
        """Destroy the transmit buffer."""
        if self._leave(self._sending):
            buffer = self._pluto._txbuf
            self._pluto.tx_destroy_buffer()
            self.destroy(buffer)

    def wake(self) -> None:
        """Wake whatever hangs in a buffer, and all of a board that is silent, so that closing does not wait for it."""
        for calls in (self._receiving, self._sending):
            if calls.under_way or self._context.silent:
                self.cancel(self._buffer_of(calls))

    def _leave(self, calls) -> bool:
        """Wake a call that hangs, or was interrupted, until it has left the buffer, which it may still have to make;
        whether it did: otherwise buffer and context are left alone."""
        deadline = time.monotonic() + LEFT_BEHIND_S
        while calls.under_way and time.monotonic() < deadline:
            self.cancel(self._buffer_of(calls))
            calls.over(WAKE_S)
        self._context.in_use |= calls.under_way
        return not calls.under_way

    @staticmethod
    def cancel(buffer) -> None:
        """Wake a call that hangs in a buffer."""
        with contextlib.suppress(Exception):
            buffer.cancel()

    @staticmethod
    def destroy(buffer) -> None:
        """Destroy a buffer now. Left to the garbage collector, it might go after its context, which crashes libiio."""
        if buffer is not None and buffer._buffer is not None:
            buffer.__del__()
            buffer._buffer = None

    def overflow(self) -> bool | None:
        """Whether received samples were lost since the last look; None where the board cannot tell."""
        return self._status(self._pluto._rxadc, RX_OVERFLOW)

    def underflow(self) -> bool | None:
        """Whether the transmitter ran dry since the last look; None where the board cannot tell."""
        return self._status(self._pluto._txdac, TX_UNDERFLOW)

    def _status(self, core, bit):
        """The bit, cleared; None for one that reads 1 again at once, as with some firmware it always does."""

        def read():
            if not core.reg_read(STATUS_REGISTER) & bit:
                return False
            core.reg_write(STATUS_REGISTER, bit)
            return None if core.reg_read(STATUS_REGISTER) & bit else True

        return self._context.ask("reading the status", read)
