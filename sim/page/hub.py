"""Between lab and browsers: what each browser has not seen yet, newest only, and the commands that they send."""

import asyncio
import json
import time
from collections import deque
from collections.abc import Iterator
from weakref import WeakKeyDictionary

from airnet_sdr.dsp.errors import InputError, LinkError
from airnet_sdr.sim.page import knobs
from airnet_sdr.sim.page.display import ReceiverState
from airnet_sdr.sim.page.lab import Lab
from airnet_sdr.sim.page.reports import save_report

STATE, SCOPE, DETAIL, PICTURES, REPLY = range(5)  # first byte of what a browser gets
MAX_CLIENTS = 32
MAX_COMMAND_BYTES = 2048
CLASSES = {
    "fashion-mnist": "T-shirt Trouser Pullover Dress Coat Sandal Shirt Sneaker Bag Boot".split(),
}
FOREIGN = 'a command is a JSON object, as {"turn": "air", "to": {"cfo_hz": 0}}'


class Client:
    """What one browser watches and has seen."""

    def __init__(self):
        self.changed = asyncio.Event()
        self.watched = 0  # number of a receiver
        self.seen: dict[int, object] = {}  # by kind, the version sent last
        self.replies: deque[dict] = deque(maxlen=8)

    def reply(self, **values) -> None:
        """Answer this browser alone."""
        self.replies.append(values)
        self.changed.set()


class Hub:
    """All browsers of one lab."""

    def __init__(self, lab: Lab):
        self.lab = lab
        self.clients: set[Client] = set()
        self.touched = 0  # commands so far
        self.tour = ""  # what the tour is at, "" without
        self._state = b""
        self._details: WeakKeyDictionary[ReceiverState, tuple[int, bytes]] = WeakKeyDictionary()
        self.refresh()

    def refresh(self) -> None:
        """Make the state anew, and wake everybody if it has changed."""
        state = json.dumps(self.state(), allow_nan=False).encode()
        if state != self._state:
            self._state = state
            self.wake()

    def wake(self, name: str | None = None) -> None:
        """Wake the browsers, or those that watch the receiver ``name``."""
        for client in self.clients:
            if name is None or self._watched(client) == name:
                client.changed.set()

    def _watched(self, client: Client) -> str | None:
        names = list(self.lab.states)
        return names[client.watched] if client.watched < len(names) else None

    def state(self) -> dict:
        """Everything that all browsers show."""
        lab = self.lab
        receivers = []
        for i, (name, state) in enumerate(lab.states.items()):
            child = next((child for child in lab.receiver_processes if child.name == name), None)
            about = {"alive": state.fresh if child is None else child.alive, "why": "" if child is None else child.why}
            air = lab.air_processes[i] if i < len(lab.air_processes) else None
            about |= {"air": True if air is None else air.alive, "pid": state.pid}
            own = vars(lab.receivers[i]) if lab.config.mode == "simulated" else {}
            receivers.append(state.summary() | about | {"knobs": own, "recording": self._is_recorded(i)})
        sender = {"alive": lab.sender_process.alive, "why": lab.sender_process.why, **lab.told_by_sender}
        return {
            "mode": lab.config.mode,
            "running": lab.running,
            "receivers": receivers,
            "sender": sender,
            "knobs": {"air": vars(lab.air), "sender": vars(lab.sender), "boards": vars(lab.boards)},
            "described": {
                "air": knobs.described(knobs.AirKnobs),
                "receiver": knobs.described(knobs.ReceiverKnobs),
                "sender": knobs.described(knobs.SenderKnobs),
                "boards": knobs.described(knobs.BoardKnobs),
            },
            "feedback": lab.feedback,
            "tour": self.tour,
            "notices": lab.notices,
            "classes": CLASSES["fashion-mnist"],
            "time": round(time.time(), 2),
        }

    def _is_recorded(self, number: int) -> bool:
        return self.lab.recording is not None and self.lab.recording[0] == number

    def unseen(self, client: Client) -> Iterator[bytes]:
        """What a browser has not seen, the newest of each kind, each a byte that names the kind and its content."""
        while client.replies:
            yield bytes([REPLY]) + json.dumps(client.replies.popleft()).encode()
        if client.seen.get(STATE) is not self._state:
            client.seen[STATE] = self._state
            yield bytes([STATE]) + self._state
        name = self._watched(client)
        if name is None:
            return
        state = self.lab.states[name]
        for kind, version, content in (
            (SCOPE, (name, state.num_scopes), lambda: state.scope),
            (DETAIL, (name, state.num_results), lambda: self._detail(state)),
            (PICTURES, (name, hash(state.pictures)), lambda: state.pictures),
        ):
            if client.seen.get(kind) != version:
                client.seen[kind] = version
                yield bytes([kind]) + content()

    def _detail(self, state: ReceiverState) -> bytes:
        made, content = self._details.get(state, (-1, b""))
        if made != state.num_results:
            content = json.dumps(state.detail(), allow_nan=False).encode()
            self._details[state] = (state.num_results, content)
        return content

    async def command(self, client: Client, content: str | bytes | None) -> None:
        """Do what a browser asks for, and answer it; what makes no sense changes nothing."""
        try:
            if not isinstance(content, str) or len(content.encode()) > MAX_COMMAND_BYTES:
                raise InputError(FOREIGN)
            try:
                asked = json.loads(content)
            except (ValueError, RecursionError) as error:
                raise InputError(FOREIGN) from error
            if not isinstance(asked, dict):
                raise InputError(FOREIGN)
            await self._do(client, asked)
        except LinkError as error:
            client.reply(error=str(error))
        self.refresh()

    async def _do(self, client: Client, asked: dict) -> None:
        lab = self.lab
        match asked:
            case {"watch": number, **more} if not more:
                client.watched = self._number(number)
                client.changed.set()
                return
            case {"turn": "receiver", "number": number, "to": dict(to), **more} if not more:
                lab.turn_receiver(self._number(number), to)
            case {"turn": "air" | "sender" | "boards" as what, "to": dict(to), **more} if not more:
                {"air": lab.turn_air, "sender": lab.turn_sender, "boards": lab.turn_boards}[what](to)
            case {"do": "start", **more} if not more:
                lab.start()
            case {"do": "stop", **more} if not more:
                lab.stop()
            case {"do": "feedback", "on": bool(on), **more} if not more:
                lab.feedback = on
            case {"do": "record", "number": number, **more} if more.keys() <= {"name"}:
                lab.record(self._number(number), more.get("name"))
            case {"do": "report", "number": number, "scheme": str(scheme), **more} if more.keys() <= {"name"}:
                state = list(lab.states.values())[self._number(number)]
                files = await save_report(lab, state, scheme, more.get("name"))
                client.reply(saved=files)
            case _:
                raise InputError(f"no command {json.dumps(asked)[:80]}; {FOREIGN}")
        self.touched += 1

    def _number(self, number) -> int:
        """The number of a receiver that there is."""
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < len(self.lab.states):
            raise InputError(
                f"there is no receiver {number!r:.20}; they are numbered from 0 to {len(self.lab.states) - 1}"
            )
        return number
