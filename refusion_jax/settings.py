"""How a setting is declared, once, where it is used: a dataclass's field with its default and the values it may have;
and the code that a setting names.

Each section of settings is a frozen dataclass; `refusion_jax.config` puts them together, reads and checks them.
"""

import dataclasses
import importlib
import json
import os
import sys
from collections.abc import Callable, Sequence
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


def split_name(name: str, key: str) -> tuple[str, str]:
    """("package.module", "name") of code that a setting names; two empty texts of an empty one. InputError for anything
    else."""
    module, colon, found = name.partition(":")
    if name and not (colon and found.isidentifier() and all(part.isidentifier() for part in module.split("."))):
        raise InputError(f"{key} must be package.module:name or empty, got {name!r}")
    return module, found


def import_named(name: str, key: str) -> Any:
    """What is called "package.module:name". Modules in the current folder are found as well.

    Raises InputError, which names the setting `key`, where it cannot be imported or is not there.
    """
    module_name, found = split_name(name, key)
    path, sys.path = sys.path, [*sys.path, os.getcwd()]
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # whatever the module does when it is imported
        raise InputError(f"{key}: cannot import {module_name!r}: {one_line(error)}") from None
    finally:
        sys.path = path
    if not hasattr(module, found):
        raise InputError(f"{key}: {module_name} has no {found!r}")
    return getattr(module, found)


def import_function(name: str, key: str) -> Callable:
    """The function called "package.module:name"; InputError as import_named, and where it cannot be called."""
    found = import_named(name, key)
    if not callable(found):
        raise InputError(f"{key}: {name} must be a function, got {type(found).__name__}")
    return found


def one_line(error: Exception) -> str:
    """An error as one short line."""
    return " ".join(str(error).split())[:300] or type(error).__name__


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


def as_set(value: Any) -> str:
    """A setting's value as --set takes it, text in quotes."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str | bool | list) else f"{value}"
