"""The simulated air's options: a checked dataclass, presets, and command-line options."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.dsp.host.options import add_options, check_fields, check_known, option
from airnet_sdr.sim.channel.impairments import KINDS, PROFILES


@dataclass(frozen=True)
class ChannelConfig:
    """The impairments of the air, all off by default. Positions count samples at the impairment's own input."""

    snr_db: float | None = option(None, "SNR per payload symbol (default: no noise)", -100, 200)
    tx_clip_db: float | None = option(
        None, "sender's full scale over the rms of I or Q (default: no clipping)", -40, 100
    )
    junk_samples: int = option(0, "samples of noise sent before the burst", 0, 2**24)
    junk_db: float = option(12.0, "peak of that noise in I or Q over the signal's rms", -100, 100)
    delay_samples: float = option(0.0, "delay of the signal, fractions allowed", 0, 2**26)
    echoes: tuple = option(
        (),
        "echo, its level relative to the direct path; repeatable; the sum has unit power",
        parts=("DELAY", "LEVEL_DB", "PHASE_DEG"),
        flag="--echo",
    )
    tdl: str | None = option(None, "profile of Rayleigh taps (default: none)", choices=tuple(PROFILES))
    doppler_hz: float = option(0.0, "maximum Doppler shift of the fading path, or of each tap of --tdl", 0, 1e6)
    rician_k_db: float | None = option(
        None, "power of the constant wave over the fading ones (default: Rayleigh)", -100, 100
    )
    bursts: tuple = option((), "burst of interference; repeatable", parts=("AT", "NUM", "LEVEL_DB"), flag="--burst")
    interference: tuple = option(
        (),
        f"of {', '.join(KINDS)}: signal over it while it is on, share of the time; repeatable",
        parts=("KIND", "SIR_DB", "SHARE"),
        choices=tuple(KINDS),
        flag="--interference",
    )
    tones: tuple = option((), "steady carrier, signal over it; repeatable", parts=("FREQ_HZ", "SIR_DB"), flag="--tone")
    background: str | None = option(None, "SigMF recording of a band, added over and over", metavar="FILE")
    background_snr_db: float = option(10.0, "SNR per payload symbol over the recording's mean power", -100, 200)
    cfo_hz: float = option(0.0, "carrier frequency offset", -1e9, 1e9)
    sco_ppm: float | None = option(None, "sample clock offset (default: from --cfo-hz, for one crystal)", -1e4, 1e4)
    phase_noise_deg: float = option(0.0, "phase noise, degrees rms", 0, 90)
    phase_noise_corner_hz: float = option(
        20e3, "corner of the phase noise, below which its spectrum is flat", 1e-3, 1e9
    )
    iq_amplitude_db: float = option(0.0, "amplitude of Q relative to I", -20, 20)
    iq_phase_deg: float = option(0.0, "phase error of Q", -80, 80)
    dc_dbc: float | None = option(None, "power of the DC offset over the signal's (default: none)", -200, 100)
    dc_phase_deg: float = option(45.0, "phase of the DC offset")
    gain_steps: tuple = option(
        (), "receiver gain from sample AT on; repeatable", parts=("AT", "GAIN_DB"), flag="--gain-step"
    )
    bits: int | None = option(None, "bits of the receiver's converter (default: no quantisation)", 2, 24)
    full_scale_db: float = option(12.0, "the converter's full scale over the rms of I or Q, noise included", -40, 100)
    drops: tuple = option((), "drop NUM samples; repeatable", parts=("AT", "NUM"), flag="--drop")
    repeats: tuple = option(
        (), "deliver the NUM samples before AT twice; repeatable", parts=("AT", "NUM"), flag="--repeat"
    )
    events_every_samples: float | None = option(
        None, "mean interval at which bursts, gain steps, drops and repeats recur after AT (default: once)", 1
    )
    cut_start_samples: int = option(0, "samples cut from the start of the recording", 0, 2**62)
    cut_stop_samples: int | None = option(None, "sample at which the recording ends (default: its end)", 0, 2**62)

    def __post_init__(self):
        check_fields(self)
        if self.background is None and self.background_snr_db != ChannelConfig.background_snr_db:
            raise InputError("`background_snr_db` has no effect without `background`; name a recording")
        if self.tdl is not None and self.echoes:
            raise InputError(f"the channel has both a tdl ({self.tdl}) and {len(self.echoes)} echoes: give one of them")


PRESETS = {
    # two radios, one cable, an attenuator
    "cable": ChannelConfig(snr_db=30, cfo_hz=24e3, sco_ppm=10, phase_noise_deg=0.5, dc_dbc=-45, bits=12),
    # two PlutoSDRs at 2.4 GHz, crystals at opposite ends of their tolerance
    "bench": ChannelConfig(
        snr_db=12,
        cfo_hz=119e3,
        sco_ppm=49.5,
        phase_noise_deg=1.0,
        iq_amplitude_db=0.4,
        iq_phase_deg=2.0,
        dc_dbc=-30,
        bits=12,
    ),
    "room": ChannelConfig(snr_db=15, echoes=((1.3, -6, 70), (4.7, -10, -120), (11.2, -16, 30))),
    # echoes past the cyclic prefix, a moving receiver, and everything that goes wrong now and then
    "hostile": ChannelConfig(
        snr_db=10,
        tx_clip_db=9,
        junk_samples=5000,
        delay_samples=1234.56,
        echoes=((2.6, -8, 110), (9.3, -12, -40), (41.5, -22, 160)),
        doppler_hz=3,
        rician_k_db=10,
        bursts=((0, 300, 15),),
        cfo_hz=-108e3,
        sco_ppm=-45,
        phase_noise_deg=1.5,
        iq_amplitude_db=0.8,
        iq_phase_deg=4,
        dc_dbc=-20,
        gain_steps=((0, 4), (0, -4)),
        bits=8,
        drops=((0, 500),),
        repeats=((0, 1024),),
        events_every_samples=400_000,
        cut_start_samples=3000,
    ),
}


def channel_config(options: Mapping, preset: str | None = None) -> ChannelConfig:
    """The `ChannelConfig` of a preset and the options that are its fields; ``none`` unsets a field of the preset.

    Raises InputError for an unknown preset or an invalid value.
    """
    if preset is not None and preset not in PRESETS:
        raise InputError(f"`preset` must be one of {', '.join(PRESETS)}; got {preset!r}")
    base = ChannelConfig() if preset is None else PRESETS[preset]
    known = {declared.name: declared for declared in fields(ChannelConfig)}
    given = {name: _unset(known[name], value) for name, value in options.items() if name in known}
    return replace(base, **given)


def channel_preset(name: str, **options) -> ChannelConfig:
    """The preset, changed by the options; raises `InputError` for an unknown name or option."""
    check_known(options, ChannelConfig)
    return channel_config(options, name)


def add_channel_options(parser) -> None:
    """Add every field of `ChannelConfig`, and --preset, as options of an argparse parser."""
    group = parser.add_argument_group("channel", "impairments of the air; options override the preset")
    group.add_argument("--preset", metavar="NAME", help=f"one of {', '.join(PRESETS)}")
    add_options(group, ChannelConfig)


def _unset(declared, value):
    """The value; for the word none, the field's unset value."""
    if declared.metadata["parts"]:
        return () if list(value) == ["none"] else value
    return None if isinstance(value, str) and value.lower() == "none" else value
