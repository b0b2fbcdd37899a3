"""Screenshots of the lab page for the documents: `python sim/page/screenshots.py --out docs`.

At 15 and 5 dB, dark; the same at 0 dB, light, where the digital network is lost; and on a phone.
"""

import dataclasses
import sys
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[2] / "src")
    from airnet_sdr.dsp.host import environment

    environment.begin()

from airnet_sdr.dsp.host.command import CommandParser, run_command
from airnet_sdr.dsp.host.options import add_options, check_fields, config_from, option
from airnet_sdr.sim.page.browser import Page, browser, lab

PHONE = (390, 844)
ARRIVED = "['analog', 'digital', 'hybrid'].every((s) => s in (lab.state?.receivers[0]?.results ?? {}))"


@dataclasses.dataclass(frozen=True)
class ScreenshotConfig:
    """Where the pictures go, and how long the link runs before each."""

    out: Path = option(Path("docs"), "folder of lab.png, lab-0dB.png and lab-phone.png", metavar="DIR")
    seconds: float = option(45.0, "time of each before it is taken", 0, 600, metavar="T")

    def __post_init__(self):
        check_fields(self)


def take(config: ScreenshotConfig) -> None:
    """Start a lab and a browser, and take the pictures."""
    config.out.mkdir(parents=True, exist_ok=True)
    with lab("--out=out/lab-screenshots") as (_, url), browser() as running:
        page = Page(running, url)
        page.wait(ARRIVED)
        page.pause(config.seconds)
        _save(page, config.out / "lab.png")
        page.ask({"turn": "receiver", "number": 0, "to": {"snr_db": 0}})
        page.tab.locator("#theme").click()
        page.pause(config.seconds)
        _save(page, config.out / "lab-0dB.png")
        page = Page(running, url, PHONE)
        page.wait(ARRIVED)
        page.pause(min(config.seconds, 10))
        _save(page, config.out / "lab-phone.png")


def _save(page: Page, path: Path) -> None:
    page.tab.screenshot(path=path)
    print(path, flush=True)


def main(argv=None) -> int:
    """Take the pictures."""
    parser = CommandParser(prog="screenshots", description=__doc__)
    add_options(parser, ScreenshotConfig)
    options = parser.options(argv)
    return run_command(parser, lambda: take(config_from(ScreenshotConfig, options)))


if __name__ == "__main__":
    sys.exit(main())
