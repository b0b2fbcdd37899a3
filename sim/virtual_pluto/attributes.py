"""Every attribute of a board by name: how it reads, and what writing it does."""

import re
from collections.abc import Callable

from airnet_sdr.sim.virtual_pluto.board import Board, Refused
from airnet_sdr.sim.virtual_pluto.context import PHY, RX_CORE, TX_CORE

TX_GAIN_RANGE = "[-89.750000 0.250000 0.000000]"
REMEMBERED = {  # attributes that change nothing here
    "quadrature_tracking_en": "1",
    "rf_dc_offset_tracking_en": "1",
    "bb_dc_offset_tracking_en": "1",
    "ensm_mode": "fdd",
    "xo_correction": "40000000",
}


def read(board: Board, path: tuple[str, ...]) -> str:
    """The text of an attribute; path as in the protocol: device, then INPUT|OUTPUT channel, DEBUG or BUFFER, then name.

    Raises Refused for an attribute that there is not.
    """
    return board.answers.get(path[-1]) or _find(board, path)[0]()


def write(board: Board, path: tuple[str, ...], text: str) -> None:
    """Write an attribute; Refused for one that there is not, is read-only, or for a value out of range."""
    setter = _find(board, path)[1]
    if setter is None:
        raise Refused(1)
    if path[-1] in board.deaf:
        return
    try:
        setter(text.strip("\0\n "))
    except (ValueError, OverflowError, IndexError) as error:
        raise Refused(22) from error


def _find(board: Board, path) -> tuple[Callable[[], str], Callable[[str], None] | None]:
    device, *rest = path
    if device not in (PHY, RX_CORE, TX_CORE) or not rest:
        raise Refused(2)
    if rest[0] in ("INPUT", "OUTPUT"):
        if len(rest) != 3:
            raise Refused(2)
        direction, channel, name = rest
        side = "TX" if direction == "OUTPUT" else "RX"
        if device != PHY:
            return _core_channel(board, device, channel, name)
        if channel.startswith("altvoltage") and side == "TX":
            return _oscillator(board, {"altvoltage0": "RX", "altvoltage1": "TX"}.get(channel), name)
        if channel == "out" and name == "voltage_filter_fir_en":
            return lambda: str(int(board.fir)), lambda text: board.set_fir(_flag(text))
        if channel == "temp0" and name == "input":
            return lambda: "35000", None
        if channel == "voltage0":
            return _front_end(board, side, name)
        if channel == "voltage1" and side == "TX" and board.config.transmitters > 1:
            return _pick(board, "TX2", name, _transmit_gain(board, 1))
        raise Refused(2)
    if rest[0] == "DEBUG":
        if rest[1:] == ["loopback"] and device == PHY:
            return lambda: str(board.loopback), lambda text: board.set_loopback(int(text))
        if rest[1:] == ["direct_reg_access"]:
            if device == PHY:  # the chip's own registers mean nothing here
                return lambda: "0x0", lambda text: None
            side = "RX" if device == RX_CORE else "TX"
            return lambda: f"0x{board.read_register(side):X}", lambda text: board.access_register(side, text)
        raise Refused(2)
    if rest[0] == "BUFFER":
        return _remembered(board, f"{device} buffer", rest[1], "8")
    return _device(board, device, rest[0])


def _front_end(board, side, name):
    rates = lambda: str(board.rate_hz), lambda text: board.set_rate(_whole(text))  # noqa: E731
    return _pick(
        board,
        side,
        name,
        {
            "sampling_frequency": rates,
            "sampling_frequency_available": (lambda: "[2083333 1 61440000]", None),
            "rf_bandwidth": (
                lambda: str(board.bandwidth_hz[side]),
                lambda text: board.set_bandwidth(side, _whole(text)),
            ),
            "rf_bandwidth_available": (lambda: f"[200000 1 {56000000 if side == 'RX' else 40000000}]", None),
            "filter_fir_en": (lambda: str(int(board.fir)), lambda text: board.set_fir(_flag(text))),
            "rf_port_select": (lambda: "A_BALANCED" if side == "RX" else "A", lambda text: None),
        }
        | (
            {
                "hardwaregain": (
                    lambda: f"{board.rx_gain_db:.6f} dB",
                    lambda text: board.set_rx_gain(float(text.split()[0])),
                ),
                "hardwaregain_available": (lambda: "[{:g} 1 {:g}]".format(*board.rx_gain_range_db), None),
                "gain_control_mode": (lambda: board.gain_mode, board.set_gain_mode),
                "gain_control_mode_available": (lambda: "manual fast_attack slow_attack hybrid", None),
                "rssi": (lambda: f"{max(0.0, board.rx_gain_db - board.level_dbfs):.2f} dB", None),
            }
            if side == "RX"
            else _transmit_gain(board, 0)
        ),
    )


def _transmit_gain(board, number):
    return {
        "hardwaregain": (
            lambda: f"{board.tx_gains_db[number]:.6f} dB",
            lambda text: board.set_tx_gain(number, float(text.split()[0])),
        ),
        "hardwaregain_available": (lambda: TX_GAIN_RANGE, None),
    }


def _oscillator(board, side, name):
    if side is None:
        raise Refused(2)
    return _pick(
        board,
        f"{side} LO",
        name,
        {
            "frequency": (lambda: str(board.lo_hz[side]), lambda text: board.set_lo(side, _whole(text))),
            "frequency_available": (lambda: "[325000000 1 3800000000]", None),
            "powerdown": (
                lambda: str(int(board.powerdown[side])),
                lambda text: board.powerdown.update({side: _flag(text)}),
            ),
        },
    )


def _core_channel(board, device, channel, name):
    if channel in ("voltage0", "voltage1", "voltage2", "voltage3"):
        side = "RX" if device == RX_CORE else "TX"
        options = {
            "sampling_frequency": (
                lambda: str(board.rate_hz // board.fpga[side]),
                lambda text: board.set_fpga(side, _whole(text)),
            ),
            "sampling_frequency_available": (lambda: f"{board.rate_hz} {board.rate_hz // 8}", None),
        }
        return _pick(board, device, name, options)
    number = channel.removeprefix("altvoltage")
    if device != TX_CORE or number not in map(str, range(len(board.dds))):
        raise Refused(2)
    tone = board.dds[int(number)]
    if name not in tone:
        raise Refused(2)
    kind = float if name == "scale" else int
    return lambda: str(tone[name]), lambda text: tone.update({name: kind(float(text))})


def _device(board, device, name):
    if device != PHY:
        raise Refused(2)
    rate = board.rate_hz

    def load_filter(text):
        wanted = re.search(r"RX \d+ GAIN -?\d+ DEC (\d+)\s+TX \d+ GAIN -?\d+ INT (\d+)\s(.*)", text, re.DOTALL)
        if not wanted:
            raise Refused(22)
        num_taps = len(wanted[3].split())
        board.fir_config = f"FIR Rx: {num_taps},{wanted[1]} Tx: {num_taps},{wanted[2]}"

    return _pick(
        board,
        "phy",
        name,
        {
            "filter_fir_config": (
                lambda: board.fir_config or "FIR Rx: 0,0 Tx: 0,0",
                load_filter,
            ),
            "tx_path_rates": (
                lambda: f"BBPLL:{32 * rate} DAC:{8 * rate} T2:{8 * rate} T1:{4 * rate} TF:{2 * rate} TXSAMP:{rate}",
                None,
            ),
            "rx_path_rates": (
                lambda: f"BBPLL:{32 * rate} ADC:{8 * rate} R2:{8 * rate} R1:{4 * rate} RF:{2 * rate} RXSAMP:{rate}",
                None,
            ),
        },
    )


def _pick(board, where, name, options):
    if name in options:
        return options[name]
    if name in REMEMBERED:
        return _remembered(board, where, name, REMEMBERED[name])
    raise Refused(2)


def _remembered(board, where, name, default):
    key = f"{where} {name}"
    return lambda: board.plain.get(key, default), lambda text: board.plain.update({key: text[:100]})


def _whole(text: str) -> int:
    return int(float(text))


def _flag(text: str) -> bool:
    if text not in ("0", "1", "N", "Y", "n", "y"):
        raise Refused(22)
    return text in ("1", "Y", "y")
