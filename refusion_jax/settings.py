"""How a setting is declared, once, where it is used: a dataclass's field with its default and the values it may have.

Each section of settings is a frozen dataclass; `refusion_jax.config` puts them together, reads and checks them.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from refusion_jax.errors import InputError


def setting(
    default: Any,
    *,
    least: float | None = None,
    above: float | None = None,
    below: float | None = None,
    choices: Sequence[str] = (),
) -> Any:
    """A field with a default; its value must be `least` or more, greater than `above`, less than `below`, or one of
    `choices`, as far as these are given."""
    limits = {"least": least, "above": above, "below": below, "choices": choices}
    return dataclasses.field(default=default, metadata=limits)


def check_section(section: str, settings: Any) -> None:
    """InputError that names the first setting of a section (a dataclass) whose value is not one it may have."""
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        expected = field.metadata and _expected(value, **field.metadata)
        if expected:
            key = f"{section}.{field.name}" if section else field.name
            raise InputError(f"{key} must be {expected}, got {value!r}")


def _expected(value, least, above, below, choices) -> str | None:
    """What a value should have been; None where it is that."""
    if least is not None and value < least:
        return f"at least {least}" if least else "0 or more"
    if above is not None and value <= above:
        return f"greater than {above}"
    if below is not None and value >= below:
        return f"below {below}"
    if choices and value not in choices:
        return " or ".join(choice or "empty" for choice in choices)
    return None
