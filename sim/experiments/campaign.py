"""A person's first twenty minutes with boards: `python sim/board_campaign.py --radio A --rx-radio B`.

One board and a cable from TX to RX do, too: leave --rx-radio out. Looks both boards over, sends a model through the
digital loopback, finds a gain, sweeps the attenuation, sends frames for ten minutes, asks for the receiver's cable to
be pulled and put back (not with --unattended), and mutes both. Beside every result stands what virtual boards have.

Writes campaign.json and campaign.pdf, without serial numbers and addresses: attach both to an issue, whatever they say.
"""

import dataclasses
import sys
import time
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[2] / "src")
    from airnet_sdr.dsp.host import environment

    environment.begin()

import numpy as np

from airnet_sdr.dsp.burst import FrameReceiver
from airnet_sdr.dsp.errors import LinkError, RadioError
from airnet_sdr.dsp.frame import frame_samples
from airnet_sdr.dsp.host.command import CommandParser, run_command
from airnet_sdr.dsp.host.options import add_options, check_fields, config_from, option
from airnet_sdr.dsp.radio import ADDRESS_HELP, RadioConfig, open_sink, open_source, parse
from airnet_sdr.dsp.radio.options import add_radio_options, require_pluto
from airnet_sdr.dsp.radio.pluto import silence
from airnet_sdr.dsp.radio.pluto_check import check
from airnet_sdr.rx.config import ListenConfig, ReceiveConfig
from airnet_sdr.sim.experiments.library.board_sweep import AttenuationConfig, Sweep
from airnet_sdr.sim.experiments.library.campaign import Campaign
from airnet_sdr.sim.experiments.library.steps import summarise_steps
from airnet_sdr.sim.selftest import SelftestConfig, through_board
from airnet_sdr.tx.burst import Burst, modulate
from airnet_sdr.tx.config import SendConfig
from airnet_sdr.tx.sender import make_burst

STOPPED_S = 5.0  # within which a receiver notices that its board is gone, beyond its timeout


@dataclasses.dataclass(frozen=True)
class CampaignConfig:
    """The boards, what is sent, and how long."""

    rx_radio: str | None = option(
        None, "the receiver's board (default: that of --radio, over a cable)", metavar="ADDRESS"
    )
    model: str = option("fashion", "the model that is sent", metavar="NAME|PATH")
    architecture: str | None = option(
        None, "your own architecture, FILE.py:NAME or a registered name", metavar="FILE.py:NAME"
    )
    minutes: float = option(10.0, "frames are sent for so long", 0.01, 1e5, metavar="M")
    attenuation_db: tuple[float, ...] = option(
        (0.0, 10.0, 20.0, 30.0, 40.0, 50.0), "steps below full transmit power", 0, 89.75, metavar="A"
    )
    repeats: int = option(2, "rounds of all steps", 1, 1000)
    tx_gain_db: float = option(-10.0, "transmit gain outside the sweep", -89.75, 0, metavar="G")
    unattended: bool = option(False, "leave out what needs a hand: the cable")
    out: Path = option(Path("out/campaign"), "folder of the results", metavar="DIR")

    def __post_init__(self):
        check_fields(self)


class Boards:
    """The two boards, or the one, of a campaign, and the burst that goes over them."""

    def __init__(self, campaign: Campaign, address: str, config: CampaignConfig, radio: RadioConfig, burst: Burst):
        self.campaign, self.config, self.radio, self.burst = campaign, config, radio, burst
        self.sender, self.receiver = address, config.rx_radio or address
        self.samples = np.concatenate(list(modulate(burst)))
        self.sending = dataclasses.replace(radio, gain_db=config.tx_gain_db)
        self.receiving = ReceiveConfig(evaluate="none", truth=config.model, architecture=config.architecture)

    def look_over(self) -> None:
        """Names, versions and ranges, and the words through the digital loopback."""
        for number, address in enumerate(dict.fromkeys([self.sender, self.receiver])):
            lines = list(check(parse(address), self.radio))
            evm = next(line for line in lines if "EVM" in line).split("EVM ")[1]
            self.campaign.note(f"board {number}", lines)
            self.campaign.add(f"EVM of board {number}'s loopback, dB", float(evm.split()[0]), -56, 3)

    def self_test(self) -> None:
        """A model through the sender's digital loopback."""
        listening = ListenConfig(cycles=2, timeout_s=30)
        (reception,) = through_board(
            self.burst, self.sender, self.radio, listening, self.receiving, SelftestConfig(cycles=2)
        )
        report = reception.report
        self.campaign.add("NMSE through the loopback, two cycles, dB", report["weights"]["nmse_db"], -63, 3)
        self.campaign.add("frames lost in the loopback", report["frames"]["lost"], 0, 0)

    def find_gain(self) -> None:
        """The gain that the receiver finds, twice: what it hears does not change."""
        found = []
        with open_sink(self.sender, self.sending) as sink:
            sink.repeat(self.samples)
            for _ in range(2):
                with open_source(self.receiver, dataclasses.replace(self.radio, gain_db="auto"), beside=sink) as source:
                    samples = np.concatenate([source.read() for _ in range(4)])
                    found.append(source.describe()["gain_db"])
        self.radio = dataclasses.replace(self.radio, gain_db=found[-1])
        level_dbfs = float(10 * np.log10(np.mean(np.abs(samples) ** 2)))
        self.campaign.note("receive gains found, dB", found)
        self.campaign.add("level at the gain found, dB over full scale", level_dbfs, -16, 4)
        self.campaign.add("second gain over the first, dB", found[1] - found[0], 0, 3)

    def sweep(self) -> None:
        """SNR and error at steps of the transmit attenuation."""
        config = AttenuationConfig(
            radio=self.sender,
            rx_radio=self.receiver,
            attenuation_db=self.config.attenuation_db,
            repeats=self.config.repeats,
        )
        radio = dataclasses.replace(self.radio, gain_db="auto")
        sweep = Sweep(self.burst, config, radio, self.receiving)
        sweep.step_through()
        steps = self.campaign.steps = summarise_steps(sweep.trials)
        known = [step for step in steps if step["over_theory_db"] is not None]
        self.campaign.add("steps received", len(known), len(steps), 0)
        if known:
            worst = max((step["over_theory_db"] for step in known), key=abs)
            self.campaign.add("error over theory, worst step, dB", worst, 0, 1)
            low = [step for step in known if step["snr_db"] < 20]
            if len(low) > 1:
                uneven = max(abs(a["short_db"] - b["short_db"]) for a, b in zip(low, low[1:], strict=False))
                self.campaign.add("SNR off its attenuation between steps below 20 dB, dB", uneven, 0, 1)

    def endure(self) -> None:
        """Frames for some minutes: none lost, no sample lost, and one crystal for carrier and clock."""
        length = frame_samples(self.burst.header, FrameReceiver().fmt)
        listener, numbers, cfos, scos = FrameReceiver(), [], [], []
        with open_sink(self.sender, self.sending) as sink:
            sink.repeat(self.samples)
            with open_source(self.receiver, self.radio, beside=sink) as source:
                while source.samples < 60 * self.config.minutes * self.radio.rate_hz:
                    frames = [frame for frame in listener.push(source.read()) if not frame.supplement]
                    numbers += [frame.start for frame in frames]
                    cfos += [frame.cfo * self.radio.rate_hz / (2 * np.pi) for frame in frames]
                    scos += [1e6 * frame.sco for frame in frames]
                self.campaign.note("receiver", source.describe())
            self.campaign.note("sender", sink.describe())
        expected = round((numbers[-1] - numbers[0]) / length) + 1 if numbers else 1
        self.campaign.note("frames received", len(numbers))
        self.campaign.add("frames lost, per cent", 100 * (1 - len(numbers) / expected) if numbers else 100.0, 0, 0.01)
        self.campaign.add("samples lost, places", len(listener.losses), 0, 0)
        if numbers:
            carrier_ppm = 1e6 * float(np.mean(cfos)) / self.radio.freq_hz
            self.campaign.note("carrier offset, ppm: mean, first, last", [carrier_ppm, cfos[0], cfos[-1]])
            self.campaign.add("clock offset less carrier offset, ppm", float(np.mean(scos)) - carrier_ppm, 0, 1)

    def pull_the_cable(self) -> None:
        """A receiver whose board goes away ends in time, with a line, and works once it is back."""
        radio = dataclasses.replace(self.radio, timeout_s=5.0)
        reason = None
        with open_source(self.receiver, radio) as source:
            source.read()
            self.campaign.ask("pull the receiver's USB or network cable now")
            started = time.monotonic()
            try:
                while time.monotonic() < started + 60:
                    source.read()
            except RadioError as error:
                reason, seconds = str(error), time.monotonic() - started
        self.campaign.add("a pulled cable is an error of one line", int(reason is not None), 1, 0)
        if reason:
            self.campaign.note("what it says", reason)
            self.campaign.add("seconds until it is said", seconds, 0, radio.timeout_s + STOPPED_S)
        self.campaign.ask("put it back, wait ten seconds, then press Enter", wait=True)
        with open_source(self.receiver, radio) as source:
            self.campaign.add("received again, samples", source.read().size, source.read().size, 0)

    def mute(self) -> None:
        """Both boards silent, read back."""
        for address in dict.fromkeys([self.sender, self.receiver]):
            silence(parse(address))
        self.campaign.add("boards muted", 1, 1, 0)


def run(options: dict) -> None:
    """All of it, whatever fails on the way, and the two files."""
    address, config = options["radio"], config_from(CampaignConfig, options)
    for each in (address, config.rx_radio or address):
        require_pluto(each, "a campaign")
    radio = config_from(RadioConfig, {"timeout_s": 30.0} | options)
    burst = make_burst(config.model, SendConfig(snr_db=20.0, uep="none", architecture=config.architecture))
    campaign = Campaign(config.out, [address, config.rx_radio or address])
    boards = Boards(campaign, address, config, radio, burst)
    steps = [boards.look_over, boards.self_test, boards.find_gain, boards.sweep, boards.endure]
    steps += [] if config.unattended else [boards.pull_the_cable]
    try:
        for step in [*steps, boards.mute]:
            print(f"{step.__name__.replace('_', ' ')} …", flush=True)
            try:
                step()
            except LinkError as error:  # the next step may work, and the failure is a result
                campaign.fail(step.__name__.replace("_", " "), str(error))
    finally:
        print(campaign.write(), flush=True)


def main(argv=None) -> int:
    """Parse and run."""
    parser = CommandParser(prog="board_campaign", description=__doc__, epilog="radio addresses:\n" + ADDRESS_HELP)
    add_options(parser, CampaignConfig)
    add_radio_options(parser, sending=False, bench=False)
    options = parser.options(argv)
    return run_command(parser, lambda: run(options))


if __name__ == "__main__":
    sys.exit(main())
