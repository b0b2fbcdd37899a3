"""A tap between two processes on ZMQ: samples pass from one bound port to another and are counted."""

import math
import threading
import time

import zmq

from airnet_sdr.dsp.radio.zmq_stream import SAMPLE_BYTES

POLL_MS = 100
HIGH_WATER_MARK = 4  # messages that wait in each of its ends


class Tap:
    """Takes messages at ``entry`` and gives them at ``exit``, both addresses of radios; a context manager.

    A message waits for whoever is to take it. What was given to a process that then died counts as given. No more than
    ``most_hz`` samples pass in a second.
    """

    def __init__(self, most_hz: float = math.inf):
        self._most_hz = most_hz
        self.taken = self.given = 0  # samples
        self._context = zmq.Context()
        self._pull, self.entry = self._bound(zmq.PULL)
        self._push, self.exit = self._bound(zmq.PUSH)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._relay, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, exc_type, exc, traceback):
        self._stop.set()
        self._thread.join()
        self._context.destroy(linger=0)

    def _bound(self, kind):
        socket = self._context.socket(kind)
        socket.set_hwm(HIGH_WATER_MARK)
        return socket, f"zmq:tcp://127.0.0.1:{socket.bind_to_random_port('tcp://127.0.0.1')}"

    def _relay(self):
        due = 0.0
        while not self._stop.is_set():
            if not self._pull.poll(POLL_MS):
                continue
            message = self._pull.recv()
            count = len(message) // SAMPLE_BYTES
            self.taken += count
            due = max(due, time.monotonic()) + count / self._most_hz
            self._stop.wait(due - time.monotonic())
            while not self._stop.is_set():
                if self._push.poll(POLL_MS, zmq.POLLOUT):
                    self._push.send(message)
                    self.given += count
                    break
