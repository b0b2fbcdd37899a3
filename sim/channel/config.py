"""What the simulated air can do, as a checked dataclass, as presets and as options of a command."""

import math
from dataclasses import dataclass, field, fields, replace

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.sim.channel.impairments import PROFILES

# bounds of the parts of an echo or event; the integer ones are those whose lower bound is an int
_PARTS = {
    "DELAY": (0.0, 4096.0),
    "LEVEL_DB": (-200.0, 100.0),
    "GAIN_DB": (-200.0, 100.0),
    "PHASE_DEG": (-math.inf, math.inf),
    "AT": (0, 2**62),
    "NUM": (1, 2**24),
}


def _option(default, text, low=-math.inf, high=math.inf, parts=(), choices=(), flag=None):
    """A field of `ChannelConfig` with what is needed to check it and to offer it as an option."""
    checks = {"help": text, "low": low, "high": high, "parts": parts, "choices": choices, "flag": flag}
    return field(default=default, metadata=checks)


@dataclass(frozen=True)
class ChannelConfig:
    """What the air does. The defaults do nothing. Positions count samples at the impairment's own input."""

    snr_db: float | None = _option(None, "SNR per payload symbol; none: no noise", -100, 200)
    tx_clip_db: float | None = _option(None, "sender's full scale over the rms of a rail", -40, 100)
    junk_samples: int = _option(0, "junk sent before the burst", 0, 2**24)
    junk_db: float = _option(12.0, "peak of a junk rail over the rms of a rail of the signal", -100, 100)
    delay_samples: float = _option(0.0, "silence before everything, fractions allowed", 0, 2**26)
    echoes: tuple = _option(
        (),
        "echo beside the direct path, level over it; repeatable; the whole is scaled to unit power",
        parts=("DELAY", "LEVEL_DB", "PHASE_DEG"),
        flag="--echo",
    )
    tdl: str | None = _option(None, "profile of Rayleigh taps", choices=tuple(PROFILES))
    doppler_hz: float = _option(0.0, "maximum Doppler shift: the path, or each tap of --tdl, fades", 0, 1e6)
    rician_k_db: float | None = _option(
        None, "power of the steady wave over the fading rest; none: Rayleigh", -100, 100
    )
    bursts: tuple = _option((), "burst of interference; repeatable", parts=("AT", "NUM", "LEVEL_DB"), flag="--burst")
    cfo_hz: float = _option(0.0, "carrier frequency offset", -1e9, 1e9)
    sco_ppm: float | None = _option(None, "sample clock offset; none: that of cfo_hz, as from one crystal", -1e4, 1e4)
    phase_noise_deg: float = _option(0.0, "phase noise, degrees rms", 0, 90)
    phase_noise_corner_hz: float = _option(20e3, "up to where its spectrum is flat", 1e-3, 1e9)
    iq_amplitude_db: float = _option(0.0, "amplitude of Q over I", -20, 20)
    iq_phase_deg: float = _option(0.0, "phase error of Q", -80, 80)
    dc_dbc: float | None = _option(None, "DC offset over the signal's power", -200, 100)
    dc_phase_deg: float = _option(45.0, "phase of the DC offset")
    gain_steps: tuple = _option((), "gain from AT on; repeatable", parts=("AT", "GAIN_DB"), flag="--gain-step")
    bits: int | None = _option(None, "receiver's converter", 2, 24)
    full_scale_db: float = _option(12.0, "the converter's full scale over the rms of a rail, noise included", -40, 100)
    drops: tuple = _option((), "samples lost; repeatable", parts=("AT", "NUM"), flag="--drop")
    repeats: tuple = _option((), "samples before AT delivered twice; repeatable", parts=("AT", "NUM"), flag="--repeat")
    events_every_samples: float | None = _option(
        None, "mean gap at which bursts, gain steps, drops and repeats recur after AT; none: once, exactly there", 1
    )
    cut_start_samples: int = _option(0, "samples missing at the start of the recording", 0, 2**62)
    cut_stop_samples: int | None = _option(None, "sample at which the recording ends", 0, 2**62)

    def __post_init__(self):
        for option in fields(self):
            object.__setattr__(self, option.name, _checked(option, getattr(self, option.name)))
        if self.tdl is not None and self.echoes:
            raise InputError(f"the channel has both a tdl ({self.tdl}) and {len(self.echoes)} echoes: give one of them")


def _checked(option, value):
    """The value of a `ChannelConfig` field in its proper type, or `InputError`."""
    checks = option.metadata
    if value is None and option.default is None:
        return None
    if checks["choices"]:
        if value not in checks["choices"]:
            raise InputError(f"channel: {option.name} is {value!r}: choose one of {', '.join(checks['choices'])}")
        return value
    if checks["parts"]:
        return tuple(_checked_parts(option, item) for item in value)
    whole = isinstance(option.default, int) or str(option.type).startswith("int")
    return _checked_number(option.name, value, checks["low"], checks["high"], whole)


def _checked_parts(option, item) -> tuple:
    """One echo or event; a missing phase is 0."""
    parts = option.metadata["parts"]
    if not isinstance(item, (tuple, list)):
        raise InputError(f"channel: {option.name} has {item!r}: give {':'.join(parts)}")
    item = tuple(item)
    if parts[-1] == "PHASE_DEG" and len(item) == len(parts) - 1:
        item += (0.0,)
    if len(item) != len(parts):
        raise InputError(f"channel: {option.name} has {item!r}: give {':'.join(parts)}")
    return tuple(
        _checked_number(f"{part} of {option.name}", value, *_PARTS[part], isinstance(_PARTS[part][0], int))
        for part, value in zip(parts, item, strict=True)
    )


def _checked_number(name, value, low, high, whole):
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not (math.isfinite(number) and low <= number <= high) or (whole and number != int(number)):
        kind = "a whole number" if whole else "a number"
        raise InputError(f"channel: {name} is {value!r}: give {kind} from {low:g} to {high:g}")
    return int(number) if whole else number


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


def channel_preset(name: str, **options) -> ChannelConfig:
    """The preset with options put over it; raises `InputError` for an unknown name or option."""
    if name not in PRESETS:
        raise InputError(f"no channel preset {name!r}: choose one of {', '.join(PRESETS)}")
    unknown = sorted(options.keys() - {option.name for option in fields(ChannelConfig)})
    if unknown:
        raise InputError(f"no channel option {unknown[0]!r}: see ChannelConfig")
    return replace(PRESETS[name], **options)


def add_channel_arguments(parser) -> None:
    """Offer every field of `ChannelConfig`, and --preset, as options of an argparse parser."""
    group = parser.add_argument_group("channel", "what the air does; options go over the preset")
    group.add_argument("--preset", metavar="NAME", help=f"one of {', '.join(PRESETS)}")
    for option in fields(ChannelConfig):
        checks = option.metadata
        group.add_argument(
            checks["flag"] or "--" + option.name.replace("_", "-"),
            dest=option.name,
            action="append" if checks["parts"] else "store",
            metavar=":".join(checks["parts"]).replace(":PHASE_DEG", "[:PHASE_DEG]") or "X",
            help=checks["help"] + (f": {', '.join(checks['choices'])}" if checks["choices"] else ""),
        )


def channel_config_from_args(args) -> ChannelConfig:
    """The `ChannelConfig` of parsed options; ``none`` unsets one of the preset. Raises `InputError`."""
    given = {}
    for option in fields(ChannelConfig):
        value = getattr(args, option.name)
        if value is None:
            continue
        if option.metadata["parts"]:
            given[option.name] = () if value == ["none"] else tuple(item.split(":") for item in value)
        else:
            given[option.name] = None if value.lower() == "none" else value
    return channel_preset(args.preset, **given) if args.preset is not None else ChannelConfig(**given)
