"""The attribute tree of a PlutoSDR as libiio sees it: devices, channels and attributes, and their XML."""

from dataclasses import dataclass, replace
from xml.sax.saxutils import quoteattr

PHY, RX_CORE, TX_CORE = "iio:device0", "iio:device3", "iio:device2"
DDS_TONES = tuple(f"TX{number}_{rail}_F{tone}" for number in (1, 2) for rail in "IQ" for tone in (1, 2))


@dataclass(frozen=True)
class Channel:
    """A channel: id, direction, attributes, and for data channels scan index and format."""

    id: str
    output: bool
    attributes: tuple[str, ...]
    name: str | None = None
    scan: tuple[int, str] | None = None


@dataclass(frozen=True)
class Device:
    """A device of the context."""

    id: str
    name: str
    channels: tuple[Channel, ...] = ()
    attributes: tuple[str, ...] = ()
    debug: tuple[str, ...] = ()
    buffer: tuple[str, ...] = ()


_RATE = ("sampling_frequency", "sampling_frequency_available")
_TRACKING = ("quadrature_tracking_en", "rf_dc_offset_tracking_en", "bb_dc_offset_tracking_en")
_LO = ("frequency", "frequency_available", "powerdown")
# of all channels of a direction alike: their files are named without a number, by which GNU Radio asks for them
_SHARED = {
    "sampling_frequency", "sampling_frequency_available", "rf_bandwidth", "rf_bandwidth_available", "filter_fir_en",
    "gain_control_mode_available", *_TRACKING,
}  # fmt: skip

# what a context consists of: libiio's parser wants to be told
_DTD = "".join(
    [f"<!ELEMENT {name} {content}>" for name, content in {
        "context": "(device | context-attribute)*",
        "context-attribute": "EMPTY",
        "device": "(channel | attribute | debug-attribute | buffer-attribute)*",
        "channel": "(scan-element?, attribute*)",
        "scan-element": "EMPTY",
        "attribute": "EMPTY",
        "debug-attribute": "EMPTY",
        "buffer-attribute": "EMPTY",
    }.items()]
    + [f"<!ATTLIST {element} {' '.join(f'{name} CDATA #IMPLIED' for name in names)}>" for element, names in {
        "context": ("name", "description"),
        "context-attribute": ("name", "value"),
        "device": ("id", "name"),
        "channel": ("id", "type", "name"),
        "scan-element": ("index", "format"),
        "attribute": ("name", "filename"),
        "debug-attribute": ("name",),
        "buffer-attribute": ("name",),
    }.items()]
)  # fmt: skip

DEVICES = (
    Device(
        PHY,
        "ad9361-phy",
        (
            Channel("altvoltage0", True, _LO, "RX_LO"),
            Channel("altvoltage1", True, _LO, "TX_LO"),
            Channel(
                "voltage0",
                False,
                (
                    "gain_control_mode", "gain_control_mode_available", "hardwaregain", "hardwaregain_available",
                    "rssi", "rf_bandwidth", "rf_bandwidth_available", "rf_port_select", "filter_fir_en",
                    *_RATE, *_TRACKING,
                ),
            ),
            Channel(
                "voltage0",
                True,
                (
                    "hardwaregain", "hardwaregain_available", "rf_bandwidth", "rf_bandwidth_available",
                    "rf_port_select", "filter_fir_en", *_RATE,
                ),
            ),
            Channel("out", False, ("voltage_filter_fir_en",)),
            Channel("temp0", False, ("input",)),
        ),
        ("ensm_mode", "filter_fir_config", "rx_path_rates", "tx_path_rates", "xo_correction"),
        ("loopback", "direct_reg_access"),
    ),
    Device(
        TX_CORE,
        "cf-ad9361-dds-core-lpc",
        (
            Channel("voltage0", True, _RATE, scan=(0, "le:S16/16>>0")),
            Channel("voltage1", True, _RATE, scan=(1, "le:S16/16>>0")),
            *(Channel(f"altvoltage{i}", True, ("raw", "frequency", "scale", "phase"), name)
              for i, name in enumerate(DDS_TONES[:4])),
        ),
        debug=("direct_reg_access",),
        buffer=("length_align_bytes",),
    ),
    Device(
        RX_CORE,
        "cf-ad9361-lpc",
        (
            Channel("voltage0", False, _RATE, scan=(0, "le:S12/16>>0")),
            Channel("voltage1", False, _RATE, scan=(1, "le:S12/16>>0")),
        ),
        debug=("direct_reg_access",),
        buffer=("length_align_bytes",),
    ),
)  # fmt: skip


def devices(transmitters: int) -> tuple[Device, ...]:
    """The devices of a board with one transmitter, or with two as a Pluto+."""
    if transmitters == 1:
        return DEVICES
    phy, tx_core, rx_core = DEVICES
    second = Channel("voltage1", True, ("hardwaregain", "hardwaregain_available"))
    rails = [Channel(f"voltage{i}", True, _RATE, scan=(i, "le:S16/16>>0")) for i in (2, 3)]
    tones = [Channel(f"altvoltage{i}", True, ("raw", "frequency", "scale", "phase"), DDS_TONES[i]) for i in range(4, 8)]
    return (
        replace(phy, channels=(*phy.channels, second)),
        replace(tx_core, channels=(*tx_core.channels, *rails, *tones)),
        rx_core,
    )


def context_xml(serial: str, firmware: str, transmitters: int = 1) -> str:
    """What PRINT answers: the context of one board."""
    attributes = {
        "hw_model": "Virtual PlutoSDR (simulated) Rev.B (Z7010-AD9364)",
        "hw_model_variant": "1",
        "hw_serial": serial,
        "fw_version": firmware,
        "ad9361-phy,model": "ad9364",
        "local,kernel": "simulated",
    }
    rows = [f"<context-attribute name={quoteattr(k)} value={quoteattr(v)} />" for k, v in attributes.items()]
    rows += [_device_xml(device) for device in devices(transmitters)]
    return (
        f'<?xml version="1.0" encoding="utf-8"?><!DOCTYPE context [{_DTD}]>'
        f'<context name="local" description="virtual PlutoSDR: a simulation">{"".join(rows)}</context>'
    )


def _device_xml(device: Device) -> str:
    rows = [_channel_xml(channel) for channel in device.channels]
    for tag, names in (("", device.attributes), ("debug-", device.debug), ("buffer-", device.buffer)):
        rows += [f"<{tag}attribute name={quoteattr(name)} />" for name in names]
    return f"<device id={quoteattr(device.id)} name={quoteattr(device.name)} >{''.join(rows)}</device>"


def _filename(channel: Channel, attribute: str) -> str:
    """As the kernel's industrial I/O names the file of a channel's attribute."""
    if channel.id == "out":
        return f"in_out_{attribute}"
    name = channel.id.rstrip("0123456789") if attribute in _SHARED else channel.id
    return "_".join(filter(None, ["out" if channel.output else "in", name, channel.name, attribute]))


def _channel_xml(channel: Channel) -> str:
    direction = "output" if channel.output else "input"
    name = f" name={quoteattr(channel.name)}" if channel.name else ""
    rows = []
    if channel.scan:
        rows.append(f'<scan-element index="{channel.scan[0]}" format={quoteattr(channel.scan[1])} />')
    for attribute in channel.attributes:
        rows.append(f"<attribute name={quoteattr(attribute)} filename={quoteattr(_filename(channel, attribute))} />")
    return f'<channel id={quoteattr(channel.id)} type="{direction}"{name} >{"".join(rows)}</channel>'
