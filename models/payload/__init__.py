"""Payloads: the parts that a burst carries, one file each, from weights to payload symbols and back.

A new scheme is one class that fulfils `base.Payload` and one entry in `SCHEMES`. Parts of other roles than weights are
in `BESIDE`.
"""

from airnet_sdr.models.payload.analog import AnalogPayload
from airnet_sdr.models.payload.base import Candidates, Part, Payload, ReceivedWeights
from airnet_sdr.models.payload.digital import DigitalPayload
from airnet_sdr.models.payload.hybrid import HybridPayload
from airnet_sdr.models.payload.layered import LayeredPayload
from airnet_sdr.models.payload.soft import Section, SoftSymbols
from airnet_sdr.models.payload.state import StatePayload

SCHEMES: dict[str, type[Payload]] = {
    scheme.kind: scheme for scheme in (AnalogPayload, DigitalPayload, HybridPayload, LayeredPayload)
}
BESIDE: dict[str, type[Part]] = {part.kind: part for part in (StatePayload,)}
KINDS = ("analog", "digital", "hybrid", "state")  # their codes in a manifest; others travel by name


def part_kinds() -> dict[str, type[Part]]:
    """All parts that a manifest may name."""
    return {**BESIDE, **SCHEMES}


__all__ = [
    "BESIDE",
    "KINDS",
    "SCHEMES",
    "AnalogPayload",
    "Candidates",
    "DigitalPayload",
    "HybridPayload",
    "LayeredPayload",
    "Part",
    "Payload",
    "ReceivedWeights",
    "Section",
    "SoftSymbols",
    "StatePayload",
    "part_kinds",
]
