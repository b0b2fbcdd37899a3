"""The lab: which processes run, with which knobs, and what is known of them."""

import math
import re
import time
from pathlib import Path

import zmq

from airnet_sdr.dsp.errors import InputError, LinkError, RadioError
from airnet_sdr.rx.live_message import MAX_BYTES, Message, unpack
from airnet_sdr.sim.demo import free_ports
from airnet_sdr.sim.page.commands import Places, air_command, heard_at, receiver_command, sender_command
from airnet_sdr.sim.page.config import MAX_RECEIVERS, LabConfig
from airnet_sdr.sim.page.display import ReceiverState, plain_name
from airnet_sdr.sim.page.knobs import OWN, AirKnobs, BoardKnobs, ReceiverKnobs, SenderKnobs, turned
from airnet_sdr.sim.page.processes import Child, stop_all
from airnet_sdr.sim.page.remote import Remote

MAX_RECORD_S = 60.0  # a recording ends by itself
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")  # of files that the page may ask for
FEEDBACK_S = 3.0  # between two decisions of the feedback
FEEDBACK_MARGIN_DB, FEEDBACK_STEP_DB = 1.0, 1.0
SENDER_FIELDS = ("planning", "plans", "errors", "round", "samples", "clipped")


class Lab:
    """Processes and knobs. Methods that turn or start something raise InputError for what makes no sense."""

    def __init__(self, config: LabConfig):
        self.config = config
        self.air = AirKnobs()
        network = OWN if config.model is not None else SenderKnobs.network
        self.sender = SenderKnobs(network=network, pace_hz=config.pace_hz)
        self.boards = BoardKnobs()
        self.receivers = [ReceiverKnobs(snr_db=snr_db) for snr_db in config.snr_db]
        self.states: dict[str, ReceiverState] = {}
        self.told_by_sender: dict = {}
        self.running = False
        self.feedback = False
        self.recording: tuple[int, str, float] | None = None  # receiver, file, since
        self.notices: list[dict] = []
        self.num_refused = 0  # messages that were none
        self._decided = 0.0
        self.saved = -math.inf  # when a report was
        self._context = zmq.Context()
        self.feed = self._context.socket(zmq.PULL)
        self.feed.setsockopt(zmq.MAXMSGSIZE, MAX_BYTES)
        self.feed.setsockopt(zmq.RCVHWM, 64)
        self.feed.setsockopt(zmq.IPV6, "[" in (config.feed or ""))
        try:
            self.feed.bind(config.feed or "tcp://127.0.0.1:*")
        except zmq.ZMQError as error:
            raise RadioError(f"cannot listen at {config.feed}: {error.strerror}; try another port") from error
        self.feed_address = self.feed.getsockopt_string(zmq.LAST_ENDPOINT)
        num = config.num_receivers
        ports = iter(free_ports(2 + 2 * num))
        self._sent_port = next(ports)
        self._sender_remote = Remote(self._context, next(ports))
        self._air_ports = [next(ports) for _ in range(num)]
        self._air_remotes = [Remote(self._context, next(ports)) for _ in range(num)]
        simulated = config.mode == "simulated"
        self.sender_process = self._child("sender")
        self.air_processes = [self._child(f"air {i + 1}") for i in range(num if simulated else 0)]
        self.receiver_processes = [self._child(f"receiver {i + 1}") for i in range(num)]
        for child in self.receiver_processes:
            self.states[child.name] = ReceiverState(child.name)

    def _child(self, name: str) -> Child:
        return Child(name, self.config.out / "logs" / f"{name.replace(' ', '-')}.log")

    @property
    def children(self) -> list[Child]:
        """All processes."""
        return [self.sender_process, *self.air_processes, *self.receiver_processes]

    def start(self) -> None:
        """Start what does not run; receivers first, as they take longest."""
        if self.config.mode == "feed":
            raise InputError("this page shows receivers that were started elsewhere; it starts nothing")
        self.running = True
        for i, child in enumerate(self.receiver_processes):
            if not child.wanted:
                child.start(self._receiver_command(i))
        for i, child in enumerate(self.air_processes):
            child.start(self._air_command(i))
        self.sender_process.start(self._sender_command())

    def stop(self) -> None:
        """Take sender and air off; receivers go on listening."""
        self.running = False
        self.told_by_sender = {}
        for child in (self.sender_process, *self.air_processes):
            child.end()

    def close(self) -> None:
        """End all processes."""
        stop_all(self.children)
        self._context.destroy(linger=0)

    def _sender_command(self) -> list[str]:
        control, port = self._sender_remote.address, self._sent_port
        return sender_command(self.config, self.sender, self.boards, Places(self.feed_address, control, port))

    def _air_command(self, number: int) -> list[str]:
        options = self._air_options(number) | {"seed": self.config.seed + 1000 * number}
        return air_command(options, self._air_remotes[number].address, self._sent_port, self._air_ports[number])

    def _air_options(self, number: int) -> dict:
        return self.air.channel_options() | {"snr_db": self.receivers[number].snr_db}

    def _receiver_command(self, number: int, record: str | None = None) -> list[str]:
        boards = self.config.mode == "boards"
        radio = self.config.rx_radio[number] if boards else heard_at(self._air_ports[number])
        name = self.receiver_processes[number].name
        return [
            *receiver_command(self.config, radio, self.feed_address, name),
            *([f"--freq-hz={self.boards.freq_hz}", f"--gain-db={self.boards.rx_gain_db}"] if boards else []),
            *([f"--record={record}"] if record else []),
        ]

    def turn_air(self, changes: dict) -> None:
        """Turn knobs of the simulated air."""
        self._only("simulated", "the simulated air")
        self.air = turned(self.air, changes)
        for number in range(len(self.air_processes)):
            self._tell_air(number)
        self.begin_round()

    def turn_receiver(self, number: int, changes: dict) -> None:
        """Turn knobs of one receiver's air."""
        self._only("simulated", "the simulated air")
        self.receivers[number] = turned(self.receivers[number], changes)
        self._tell_air(number)
        self.begin_round()

    def _tell_air(self, number: int) -> None:
        self._air_remotes[number].send(self._air_options(number))
        self.air_processes[number].command = self._air_command(number)

    def turn_sender(self, changes: dict) -> None:
        """Turn knobs of the sender."""
        if self.config.mode == "feed":
            raise InputError("the sender is elsewhere")
        if changes.get("network") == OWN and self.config.model is None:
            raise InputError("`network` own needs --model NAME|PATH at the start of the lab")
        self.sender = turned(self.sender, changes)
        self._sender_remote.send(changes)
        self.sender_process.command = self._sender_command()

    def turn_boards(self, changes: dict) -> None:
        """Tune the boards: sender and receivers start again with the new settings."""
        self._only("boards", "radios")
        self.boards = turned(self.boards, changes)
        if self.running:
            self.sender_process.start(self._sender_command())
        for number, child in enumerate(self.receiver_processes):
            child.start(self._receiver_command(number))

    def begin_round(self) -> None:
        """Receivers shall not combine what came through another air."""
        self._sender_remote.send({"restart": True})

    def _only(self, mode: str, what: str) -> None:
        if self.config.mode != mode:
            raise InputError(f"there is no knob of {what} here: this lab runs on {self.config.mode}")

    def record(self, number: int, name: str | None) -> None:
        """Record what a receiver hears, for a minute at most, or end the recording; the receiver starts again."""
        if self.config.mode == "feed":
            raise InputError("receivers started elsewhere record with their own --record")
        if self.recording is not None:
            number, written, _ = self.recording
            self.recording = None
            self.notice(f"recorded {written}")
            self.receiver_processes[number].start(self._receiver_command(number))
            return
        path = self.file("recordings", f"{name_of(name, 'air')}-{stamp()}.sigmf-meta")
        self.recording = (number, str(path), time.monotonic())
        self.receiver_processes[number].start(self._receiver_command(number, str(path)))

    def file(self, folder: str, name: str) -> Path:
        """Path of an output, in the chosen folder; InputError for a name that leads out of it."""
        inside = self.config.out / folder
        if not (inside / name).resolve().is_relative_to(inside.resolve()):
            raise InputError(f"files are written in {inside} alone; got {name!r:.80}")
        inside.mkdir(parents=True, exist_ok=True)
        return inside / name

    def notice(self, text: str, **more) -> None:
        """Tell every browser."""
        number = self.notices[-1]["number"] + 1 if self.notices else 1
        self.notices = [*self.notices, {"number": number, "text": text, **more}][-5:]

    def take(self, content: bytes) -> ReceiverState | None:
        """Take a message of the feed; the receiver that it came from, None where it came from none."""
        try:
            message = unpack(content)
            return self._sorted(message)
        except LinkError as error:
            self.num_refused += 1
            if self.num_refused == 1:
                self.notice(f"a message of the feed was refused: {error}"[:200])
            return None

    def _sorted(self, message: Message) -> ReceiverState | None:
        values = message.values
        kind = values.get("kind")
        if kind == "sender" and self.config.mode != "feed":
            self.told_by_sender = {field: values.get(field) for field in SENDER_FIELDS}
            return None
        name = plain_name("receiver", values.get("name"))
        state = self.states.get(name) or ReceiverState(name)
        if kind == "display":
            state.display(message)
        elif kind == "result":
            state.result(message)
        return state if name in self.states or self._placed(state) else None

    def _placed(self, state: ReceiverState) -> bool:
        """Give a new receiver a place, in a full lab that of the one silent longest; whether it has one."""
        if self.config.mode != "feed":
            return False
        places = list(self.states.values())
        if len(places) < MAX_RECEIVERS:
            places.append(state)
        else:
            oldest = min(places, key=lambda each: each.updated)
            if oldest.fresh:
                return False
            places[places.index(oldest)] = state
        self.states = {each.name: each for each in places}
        return True

    def watch(self) -> None:
        """Once in a while: start again what ended, end a long recording, let the feedback decide."""
        for child in self.children:
            why = child.why
            if child.watch():
                self.notice(f"{child.name} was started again; it {why}")
        if self.recording is not None and time.monotonic() - self.recording[2] > MAX_RECORD_S:
            self.record(self.recording[0], None)
        remotes = [self._sender_remote, *self._air_remotes]
        for answer in [answer for remote in remotes for answer in remote.refusals()]:
            self.notice(answer)
        if self.feedback and time.monotonic() - self._decided > FEEDBACK_S:
            self._decided = time.monotonic()
            self._decide()

    def _decide(self) -> None:
        """Plan for the receiver that hears worst."""
        heard = [state.counts.get("snr_db") for state in self.states.values() if state.fresh and state.flowing]
        known = [snr_db for snr_db in heard if snr_db is not None]
        if not known or not self.running or self.told_by_sender.get("planning"):
            return
        wanted = max(-5.0, min(25.0, float(round(min(known) - FEEDBACK_MARGIN_DB))))
        if abs(wanted - self.sender.plan_snr_db) >= FEEDBACK_STEP_DB:
            self.turn_sender({"plan_snr_db": wanted})
            self.notice(f"feedback: the worst receiver has {min(known):.1f} dB; planned for {wanted:g} dB")


def name_of(given: str | None, default: str) -> str:
    """The name of a file that the page asked for; InputError for anything but a plain name."""
    if given is None:
        return default
    if not isinstance(given, str) or not NAME.fullmatch(given):
        raise InputError(f"a file's name is 1 to 40 letters, digits, '_' or '-'; got {given!r:.60}")
    return given


def stamp() -> str:
    """The time as part of a file's name."""
    return time.strftime("%Y%m%d-%H%M%S")
