"""Saves a receiver's report as JSON and as a picture, in the lab's folder."""

import asyncio
import time
from types import SimpleNamespace

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.frame import DEFAULT_FORMAT
from airnet_sdr.rx.report import write_json
from airnet_sdr.sim.page.display import ReceiverState
from airnet_sdr.sim.page.lab import Lab, name_of, stamp

PAUSE_S = 2.0  # between two reports: nobody fills the disk by pressing a button


async def save_report(lab: Lab, state: ReceiverState, scheme: str, name: str | None) -> list[str]:
    """Write the newest report of a scheme; the files' names. InputError where there is none."""
    report = state.results.get(scheme, {}).get("report")
    if report is None or "matched" not in state.drawable:
        raise InputError(f"{state.name} has no report of a network sent by the scheme {scheme!r:.32} yet")
    if time.monotonic() - lab.saved < PAUSE_S:
        raise InputError(f"a report was saved just now; the next one may be in {PAUSE_S:g} s")
    lab.saved = time.monotonic()
    base = f"{name_of(name, state.name.replace(' ', '-'))}-{scheme}-{stamp()}"
    paths = [lab.file("reports", f"{base}{suffix}") for suffix in (".json", ".png")]
    try:
        await asyncio.to_thread(_draw, paths[1], report, state.drawable)
        write_json(paths[0], report)
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise InputError(f"the report of {state.name} is damaged: {error}") from error
    return [path.name for path in paths]


def _draw(path, report: dict, arrays: dict) -> None:
    from airnet_sdr.rx.picture import draw  # half a second to import

    def equalised(matched, inv_noise_var):
        usable = arrays[inv_noise_var] > 0
        return arrays[matched][usable] / arrays[inv_noise_var][usable]

    fmt = DEFAULT_FORMAT
    frame = SimpleNamespace(
        equalised=equalised("matched", "inv_noise_var"),
        equalised_control=equalised("control", "control_inv_noise_var"),
        channel=SimpleNamespace(h_hat=arrays["h_hat"]),
    )
    step = -(-fmt.num_active // arrays["h_hat"].size)
    shown = SimpleNamespace(subcarriers=fmt.subcarriers[::step], fft_size=fmt.fft_size)
    draw(path, report, SimpleNamespace(latest=frame, fmt=shown))  # type: ignore[arg-type] # what it draws of a burst
