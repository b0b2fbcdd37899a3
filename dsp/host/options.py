"""Options declared once: the fields of a frozen dataclass, checked where it is made, offered on command lines.

    @dataclass(frozen=True)
    class SendConfig:
        copies: int = option(1, "times every weight is sent", 1, 255)

        def __post_init__(self):
            check_fields(self)

A field's bounds, choices and help stand beside its default and nowhere else. `add_options` offers fields as options of
a parser, `config_from` makes the config of those that were given. Messages name a field in backquotes; a command shows
its flag instead (`dsp.host.command`).
"""

import argparse
import math
import os
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import Field, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from airnet_sdr.dsp.errors import InputError

Config = TypeVar("Config", bound=Any)  # a frozen dataclass

# bounds of the parts of an item such as AT:NUM:LEVEL_DB; a whole number where the lower bound is an int
_PARTS = {
    "DELAY": (0.0, 4096.0),
    "FREQ_HZ": (-1e9, 1e9),
    "SIR_DB": (-100.0, 100.0),
    "SHARE": (1e-4, 1.0),
    "LEVEL_DB": (-200.0, 100.0),
    "GAIN_DB": (-200.0, 100.0),
    "PHASE_DEG": (-math.inf, math.inf),
    "AT": (0, 2**62),
    "NUM": (1, 2**24),
}


def option(default, text: str, low=-math.inf, high=math.inf, *, choices=(), parts=(), flag=None, metavar=None) -> Any:
    """A dataclass field with what is needed to check it and to offer it as an option.

    low, high : bounds of a number, both allowed; nan is refused, and infinity unless "inf" is among ``choices``
    choices : the values allowed; for a number, the words allowed in its place, as "auto"
    parts : names of the parts of a repeatable option such as ``AT:NUM``, see `_PARTS`; KIND is one of ``choices``
    flag : the option's flag where it is not the field's name
    """
    meta = {"help": text, "low": low, "high": high, "choices": choices, "parts": parts}
    return field(default=default, metadata={**meta, "flag": flag, "metavar": metavar})


def flag_of(declared: Field) -> str:
    """The flag that a field has on command lines."""
    return declared.metadata.get("flag") or "--" + declared.name.replace("_", "-")


def check_fields(config) -> None:
    """Check every field declared by `option` and put in its value in the proper type; for `__post_init__`.

    Raises InputError naming the field, what it must be and the value got.
    """
    for declared in fields(config):
        if "help" in declared.metadata:
            object.__setattr__(config, declared.name, _checked(declared, getattr(config, declared.name)))


def config_from(config_class: type[Config], options: Mapping, **more) -> Config:
    """The config of ``config_class`` that the options describe: those that are its fields, ``more`` over them."""
    known = {declared.name for declared in fields(config_class)}
    return config_class(**({name: value for name, value in options.items() if name in known} | more))


def with_options(config_class: type[Config], config: Config | None, options: Mapping) -> Config:
    """``config``, or the default one, with options put over it.

    Raises InputError for an option that is no field, and for a config of another class.
    """
    check_known(options, config_class)
    if config is None:
        return config_class(**options)
    if not isinstance(config, config_class):
        raise InputError(f"`config` must be a {config_class.__name__}; got {type(config).__name__}")
    return replace(config, **options)


def split_options(options: Mapping, *config_classes) -> tuple[dict, ...]:
    """The options that belong to each class; an option may belong to several. InputError where it belongs to none."""
    check_known(options, *config_classes)
    names = ({declared.name for declared in fields(each)} for each in config_classes)
    return tuple({name: value for name, value in options.items() if name in known} for known in names)


def check_known(options: Iterable[str], *config_classes) -> None:
    """Raise InputError for an option that is a field of none of the classes."""
    known = [declared.name for each in config_classes for declared in fields(each)]
    for name in options:
        if name not in known:
            raise InputError(f"there is no option {name!r}; the options are: {', '.join(dict.fromkeys(known))}")


def add_options(group, config_class, names: Iterable[str] | None = None, helps: Mapping[str, str] = {}) -> None:  # noqa: B006
    """Offer fields of a config, all or those of ``names``, as options of an argparse parser or group.

    An option that is not given is absent from what is parsed, so that the config's default is the only one. One that
    another config has offered already belongs to both. ``helps`` replaces the help of some.
    """
    offered = {action.dest for action in group._actions}  # of the whole parser
    for declared in fields(config_class):
        if "help" not in declared.metadata or (names is not None and declared.name not in names):
            continue
        if declared.name in offered:
            continue
        meta, kind = declared.metadata, _kind(declared)
        text = helps.get(declared.name, meta["help"])
        settings: dict = {"dest": declared.name, "default": argparse.SUPPRESS}
        if kind is bool:
            settings["action"] = "store_true"
        elif meta["parts"]:
            settings |= {"action": "append", "metavar": _metavar(declared)}
        else:
            settings |= {"nargs": "+"} if kind is tuple else {}
            listed = meta["choices"] and kind not in (int, float)
            settings["metavar"] = "{" + ",".join(meta["choices"]) + "}" if listed else _metavar(declared)
            text += _default_text(declared)
        group.add_argument(flag_of(declared), help=text.replace("%", "%%"), **settings)


def _default_text(declared) -> str:
    default = declared.default
    if default in (None, "", ()) or "(default" in declared.metadata["help"]:
        return ""
    shown = " ".join(map(_number, default)) if isinstance(default, tuple) else _number(default)
    return f" (default {shown})"


def _number(value) -> str:
    return f"{value:g}".replace("e+0", "e") if isinstance(value, float) else str(value)


def _metavar(declared) -> str:
    meta = declared.metadata
    if meta["metavar"]:
        return meta["metavar"]
    if meta["parts"]:
        return ":".join(meta["parts"]).replace(":PHASE_DEG", "[:PHASE_DEG]")
    return {int: "N", Path: "PATH", str: "NAME"}.get(_kind(declared), "X")


def _kind(declared) -> type:
    """The plain type of a field: int, float, bool, str, Path or tuple."""
    hint = declared.type
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        hint = next(each for each in typing.get_args(hint) if each is not type(None))
    return typing.get_origin(hint) or hint


def _item_kind(declared) -> type:
    """The type of the items of a tuple field."""
    items = typing.get_args(declared.type)
    return items[0] if items else str


def _checked(declared, value):
    """The value of a field in its proper type; InputError where it cannot be."""
    meta, name, kind = declared.metadata, declared.name, _kind(declared)
    if value is None:
        if declared.default is None:
            return None
        raise InputError(f"`{name}` must be given; got None")
    if meta["parts"] or kind is tuple:
        try:
            items = tuple(value)
        except TypeError as error:
            raise InputError(f"`{name}` must be a list; got {value!r}") from error
        if meta["parts"]:
            return tuple(_checked_parts(declared, item) for item in items)
        return tuple(_checked_value(name, each, _item_kind(declared), meta) for each in items)
    return _checked_value(name, value, kind, meta)


def _checked_value(name, value, kind, meta):
    if kind in (int, float):
        if isinstance(value, str) and value in meta["choices"]:
            return math.inf if value == "inf" else value
        return checked_number(name, value, meta["low"], meta["high"], kind is int, meta["choices"])
    if meta["choices"]:
        if value not in meta["choices"]:
            raise InputError(f"`{name}` must be one of {', '.join(map(str, meta['choices']))}; got {value!r}")
        return value
    if kind is bool:
        return bool(value)
    if not isinstance(value, (str, os.PathLike)):
        raise InputError(f"`{name}` must be a string or a path; got {type(value).__name__}")
    return kind(os.fspath(value))


def _checked_parts(declared, item) -> tuple:
    """One item of a repeatable option; a missing phase is 0."""
    parts = declared.metadata["parts"]
    wanted = f"`{declared.name}` must be {':'.join(parts)}; got {item!r}"
    if isinstance(item, str):
        item = item.split(":")
    if not isinstance(item, (tuple, list)):
        raise InputError(wanted)
    item = tuple(item)
    if parts[-1] == "PHASE_DEG" and len(item) == len(parts) - 1:
        item += (0.0,)
    if len(item) != len(parts):
        raise InputError(wanted)
    return tuple(_checked_part(declared, part, value) for part, value in zip(parts, item, strict=True))


def _checked_part(declared, part, value):
    if part != "KIND":
        return checked_number(declared.name, value, *_PARTS[part], isinstance(_PARTS[part][0], int), what=f"{part} of ")
    if value not in declared.metadata["choices"]:
        choices = ", ".join(declared.metadata["choices"])
        raise InputError(f"{part} of `{declared.name}` must be one of {choices}; got {value!r}")
    return value


def checked_number(name: str, value, low=-math.inf, high=math.inf, whole=False, words=(), what="") -> float | int:
    """``value`` as a finite number within its bounds, an int where ``whole``; InputError naming ``name`` otherwise.

    A whole number has at most 64 bits, as in the libraries that it is passed to.
    """
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if number == math.inf and "inf" in words:
        return number
    fits = math.isfinite(number) and low <= number <= high
    if not fits or (whole and (number != int(number) or not -(2**63) <= int(number) < 2**63)):
        kind = "a whole number" if whole else "a number"
        also = "".join(f" or {word}" for word in words)
        raise InputError(f"{what}`{name}` must be {kind}{_range(low, high)}{also}; got {value!r}")
    if not whole:
        return number
    return int(value if isinstance(value, int) or str(value).isdecimal() else number)  # a float has 53 bits


def _range(low, high) -> str:
    if math.isinf(low) and math.isinf(high):
        return ""
    if math.isinf(high):
        return f" of at least {low:g}"
    if math.isinf(low):
        return f" of at most {high:g}"
    return f" from {low:g} to {high:g}"
