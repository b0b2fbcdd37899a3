"""What a campaign over boards has found, point by point beside what virtual boards have: one JSON, one PDF."""

import dataclasses
import io
import json
import re
from pathlib import Path

from airnet_sdr.dsp.host.files import write_whole
from airnet_sdr.dsp.host.machine import machine

LINES_PER_PAGE = 44
WRAP = 110


@dataclasses.dataclass(frozen=True)
class Point:
    """One result: what was measured, what virtual boards have, and how far the two may be apart."""

    name: str
    measured: float | None
    virtual: float
    tolerance: float

    @property
    def agrees(self) -> bool:
        """Whether the board does as the virtual ones."""
        return self.measured is not None and abs(self.measured - self.virtual) <= self.tolerance


class Campaign:
    """Points and notes as they come; written without serial numbers and addresses."""

    def __init__(self, out: Path, addresses: list[str]):
        self.out, self._secrets = out, {address: f"BOARD{i}" for i, address in enumerate(dict.fromkeys(addresses))}
        self.points: list[Point] = []
        self.notes: dict = {}
        self.failures: dict[str, str] = {}
        self.steps: list[dict] = []

    def add(self, name: str, measured: float | None, virtual: float, tolerance: float) -> None:
        """A point; shown at once."""
        point = Point(name, measured, virtual, tolerance)
        self.points.append(point)
        print(self._line(point), flush=True)

    def note(self, name: str, value) -> None:
        """What there is to say beside the points. A serial number in it is remembered, and taken out of everything."""
        self.notes[name] = value
        for serial in re.findall(r"serial(?:'?: '?| )([^\s,']+)", str(value)):
            if any(character.isdigit() for character in serial):  # a word is none, and would be taken out of sentences
                self._secrets[serial] = "SERIAL"

    def fail(self, step: str, reason: str) -> None:
        """A step that ended with an error."""
        self.failures[step] = reason
        print(f"  FAILED: {reason}", flush=True)

    def ask(self, text: str, wait: bool = False) -> None:
        """Ask the person at the boards for something."""
        print(f"  please {text}", flush=True)
        if wait:
            input()

    @staticmethod
    def _line(point):
        measured = "nothing" if point.measured is None else f"{point.measured:.4g}"
        verdict = "agrees" if point.agrees else "DIFFERS"
        return f"  {verdict:<8}{point.name}: {measured} (virtual boards {point.virtual:g} ± {point.tolerance:g})"

    def lines(self) -> list[str]:
        """All of it as text."""
        agree = sum(point.agrees for point in self.points)
        lines = [
            f"{agree} of {len(self.points)} points agree with virtual boards; {len(self.failures)} steps failed",
            "",
        ]
        lines += [self._line(point).strip() for point in self.points]
        lines += ["", *(f"FAILED  {step}: {reason}" for step, reason in self.failures.items()), ""]
        for name, value in self.notes.items():
            lines += [f"{name}: {line}" for line in (value if isinstance(value, list) else [value])]
        return [self._clean(line) for line in lines]

    def _clean(self, text: str) -> str:
        for secret, name in self._secrets.items():
            text = text.replace(secret, name).replace(secret.partition(":")[2] or secret, name)
        return text

    def write(self) -> str:
        """Write campaign.json and campaign.pdf; where they are."""
        content = {
            "machine": machine(),
            "points": [dataclasses.asdict(point) | {"agrees": point.agrees} for point in self.points],
            "failures": self.failures,
            "steps": self.steps,
            "notes": self.notes,
        }
        text = self._clean(json.dumps(content, indent=1, default=str))
        write_whole(self.out / "campaign.json", (text + "\n").encode())
        write_whole(self.out / "campaign.pdf", self._pdf())
        return f"{self.lines()[0]}: {self.out / 'campaign.json'} and {self.out / 'campaign.pdf'}, to attach to an issue"

    def _pdf(self) -> bytes:
        from matplotlib.backends.backend_pdf import PdfPages  # half a second to import
        from matplotlib.figure import Figure

        wrapped = [line[i : i + WRAP] for line in self.lines() for i in range(0, max(len(line), 1), WRAP)]
        file = io.BytesIO()
        with PdfPages(file, metadata={"Title": "Boards beside virtual boards"}) as pages:
            for start in range(0, len(wrapped), LINES_PER_PAGE):
                figure = Figure(figsize=(8.3, 11.7))
                text = "\n".join(wrapped[start : start + LINES_PER_PAGE])
                figure.text(0.06, 0.96, text, family="monospace", fontsize=7, va="top", parse_math=False)
                pages.savefig(figure)
            heard = [step for step in self.steps if step["snr_db"] is not None]
            if heard:
                figure = Figure(figsize=(8.3, 6), layout="constrained")
                axes = figure.subplots()
                axes.plot([s["snr_db"] for s in heard], [s["nmse_db"] for s in heard], "o", label="measured")
                known = [s for s in heard if s["theory_db"] is not None]
                axes.plot([s["snr_db"] for s in known], [s["theory_db"] for s in known], "x", label="theory")
                axes.set(xlabel="SNR per payload symbol, dB", ylabel="weight NMSE, dB")
                axes.grid(alpha=0.3)
                axes.legend()
                pages.savefig(figure)
        return file.getvalue()
