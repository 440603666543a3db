"""The settings of a run directory: every value in its config.toml, the default beside it, and where it was set."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refusion_jax.errors import InputError


@dataclass(frozen=True)
class Settings:
    """A run's settings by section.key: the values, the defaults, and which file or option each value came from."""

    values: dict[str, Any]
    defaults: dict[str, Any]
    origins: dict[str, str]

    def __getitem__(self, key: str) -> Any:
        return self.values.get(key, self.defaults.get(key))

    def whole(self, key: str) -> int:
        """A setting that is a whole number; 0 when it is none (a file edited by hand)."""
        return self[key] if type(self[key]) is int else 0

    def changed(self) -> list[tuple[str, Any, Any, str]]:
        """(key, value, default, where it was set) of all that differ from the defaults."""
        unknown = "unknown to this version"
        return [
            (key, value, self.defaults.get(key, unknown), self.origins[key])
            for key, value in self.values.items()
            if key not in ("task", "preset") and (key not in self.defaults or value != self.defaults[key])
        ]


def read_settings(run: Path) -> Settings:
    """The settings in RUN/config.toml. InputError when RUN is no run directory or the file cannot be read."""
    named = "what --out of the training named"
    if not os.path.isdir(run):  # unlike Path.is_dir, False where it cannot look
        what = "is a file" if os.path.exists(run) else "does not exist"
        raise InputError(f"{run}: expected the run directory of a training ({named}), but it {what}")
    if not os.path.isfile(run / "config.toml"):
        raise InputError(f"{run} is not a run directory: there is no config.toml in it; give {named}")
    from refusion_jax import config  # JAX takes a second to import, which a wrong name need not pay

    values = config.read_toml(run / "config.toml")
    defaults = config.flatten(config.to_dict(config.Config()), "defaults")
    return Settings(values, defaults, config.origins(values))
