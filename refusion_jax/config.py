"""The configuration: the sections of settings put together, read and checked; TOML files and --set are diffs to it.

Order of application: the defaults (the paper's recipe) <- configs/TASK.toml <- configs/PRESET.toml
<- configs/PRESET-TASK.toml, where there is one <- --set. Sections that belong to a part of the package are declared
there: loss in method/losses.py, meta in method/meta.py, model in models/build.py, lengths and learning rates of train
in method/algorithm.py.
"""

import dataclasses
import difflib
import math
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

import tomli_w

from refusion_jax.errors import InputError
from refusion_jax.imaging.files import MAX_PIXELS
from refusion_jax.imaging.levels import parse_rules
from refusion_jax.method.algorithm import Schedule
from refusion_jax.method.losses import LossSettings
from refusion_jax.method.meta import MetaSettings
from refusion_jax.metrics import TASK_METRICS, protocol_metrics
from refusion_jax.models.build import OURS, ModelSettings
from refusion_jax.settings import check_section, setting, split_name
from refusion_jax.tasks import TASKS, nearest, task_name

PRESETS = ("paper", "quick", "tuned")


@dataclass(frozen=True)
class DataSettings:
    """Where pairs come from and how batches are cut from them."""

    dir: str = ""  # folder of pairs or manifest; "" = the built-in scenes
    crop: int = setting(128, least=8)  # side of the square training crops, pixels
    # Side of the crops of the last epochs (channel attention sees other statistics in small ones); 0 = crop throughout.
    late_crop: int = setting(0, least=0)
    late_epochs: int = setting(0, least=0)  # how many epochs these are
    batch: int = setting(4, least=1)  # pairs a batch
    flips: bool = True  # random horizontal and vertical flips, the same for both sources
    # Every n-th pair by sorted name is held out and never trained on; 0 = none.
    validation_every: int = setting(10, least=0)
    exclude: tuple[str, ...] = ()  # names of pairs to leave out altogether
    # Black and white of files of more than 8 bits: auto, whole, run, LO,HI or percentile:P,Q; or a=RULE b=RULE.
    levels: str = "auto"
    cache_mib: int = setting(4096, least=0)  # decoded luma images kept in memory: MiB, half of the free ones at most
    max_pixels: int = setting(MAX_PIXELS, least=1)  # larger pictures are refused before they are decoded
    scenes: int = setting(96, least=2)  # number of built-in scenes when dir is ""
    scene_size: int = setting(256, least=32)  # their side, pixels

    def crop_of(self, epoch: int, epochs: int) -> int:
        """The side of the crops in an epoch, from 1, of so many."""
        return self.late_crop if self.late_crop and epoch > epochs - self.late_epochs else self.crop

    @property
    def largest_crop(self) -> int:
        """What every training picture must have room for."""
        return max(self.crop, self.late_crop if self.late_epochs else 0)


@dataclass(frozen=True)
class TrainSettings(Schedule):
    """Algorithm 1's lengths, the learning rates, and how the machine is used."""

    # Of the networks' activations; bfloat16 halves what an accelerator moves.
    precision: str = setting("float32", choices=("float32", "bfloat16"))
    # on: the meta step evaluates P twice to keep less in memory; auto: on a CPU.
    recompute: str = setting("auto", choices=("auto", "on", "off"))
    # What makes both steps, package.module:function, called as method/steps.make_steps; "" = that.
    steps: str = ""
    init: str = ""  # checkpoint (or a task's name) whose weights are the start; "" = random ones
    devices: int = setting(0, least=0)  # devices (of each process) that share every batch; 0 = all there are
    # Steps handed to the devices in one program; 0 = 1 on a CPU, 10 on an accelerator. Single ones where a phase or the
    # steps to the next checkpoint of checkpoint.every_steps, leave no room. Stops take effect between programs.
    steps_per_dispatch: int = setting(0, least=0)


@dataclass(frozen=True)
class LogSettings:
    """What is written while training."""

    every: int = setting(10, least=1)  # steps between lines of metrics.jsonl
    tensorboard: bool = True  # also write TensorBoard event files
    preview_every: int = setting(1, least=1)  # epochs between preview pictures
    preview_pairs: int = setting(3, least=0)  # rows of a preview
    preview_size: int = setting(256, least=8)  # side of the centre crop shown, pixels
    similarity: int = setting(0, least=0)  # meta steps between measurements of G (Eq. 13-14); 0 = never


@dataclass(frozen=True)
class ValidationSettings:
    """Scores of the held-out pairs while training."""

    every: int = setting(5, least=0)  # epochs between scorings (the last epoch is always scored); 0 = never
    pairs: int = setting(16, least=1)  # at most so many pairs, the first by name
    metrics: tuple[str, ...] = ()  # () = the paper's six of the task
    best: str = "VIF"  # the checkpoint with the best mean of this metric is kept in RUN/best


@dataclass(frozen=True)
class CheckpointSettings:
    """When checkpoints are written; one is always written at the end of an epoch and when training stops."""

    keep: int = setting(3, least=1)  # the last so many are kept
    every_minutes: float = setting(10.0, least=0)  # also after so many minutes; 0 = off
    every_steps: int = setting(0, least=0)  # also after so many steps; 0 = off


@dataclass(frozen=True)
class Config:
    """Everything that determines a run."""

    task: str = setting("meie", choices=TASKS)
    preset: str = setting("paper", choices=PRESETS)
    seed: int = setting(0, least=0, below=2**31)
    data: DataSettings = field(default_factory=DataSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    meta: MetaSettings = field(default_factory=MetaSettings)
    train: TrainSettings = field(default_factory=TrainSettings)
    log: LogSettings = field(default_factory=LogSettings)
    validation: ValidationSettings = field(default_factory=ValidationSettings)
    checkpoint: CheckpointSettings = field(default_factory=CheckpointSettings)


def nearest_key(word: str) -> str:
    """The key that an unknown one stands for most likely; its section may be missing or wrong."""
    word = word.lower()

    def likeness(key: str) -> float:
        ends = word.rpartition(".")[2], key.rpartition(".")[2]
        return max(difflib.SequenceMatcher(None, *both).ratio() for both in ((word, key), ends))

    return max(all_keys(), key=likeness)


def all_keys() -> list[str]:
    """Every key as section.key (task, preset and seed stand alone)."""
    keys = []
    for f in dataclasses.fields(Config):
        section = get_type_hints(Config)[f.name]
        if dataclasses.is_dataclass(section):
            keys += [f"{f.name}.{k.name}" for k in dataclasses.fields(section)]
        else:
            keys.append(f.name)
    return keys


def _kinds() -> dict[str, Any]:
    """The type of every key."""
    hints = get_type_hints(Config)
    sections = {key: key.rpartition(".") for key in all_keys()}
    return {key: get_type_hints(hints[s])[name] if s else hints[name] for key, (s, _, name) in sections.items()}


def to_dict(config: Config) -> dict[str, Any]:
    """Nested plain dict, tuples as lists."""

    def plain(x) -> Any:
        if isinstance(x, dict):
            return {k: plain(v) for k, v in x.items()}
        return list(x) if isinstance(x, tuple) else x

    return plain(dataclasses.asdict(config))


def to_toml(config: Config) -> str:
    """The configuration as TOML text."""
    return tomli_w.dumps(to_dict(config))


def flatten(tree: dict[str, Any], origin: str) -> dict[str, Any]:
    """{"section": {"key": value}} -> {"section.key": value}; one level of sections."""
    flat = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= {f"{key}.{k}": v for k, v in value.items()}
            if not value and key not in {k.split(".")[0] for k in all_keys()}:
                raise InputError(f"{origin}: unknown section [{key}]")
        else:
            flat[key] = value
    return flat


def _convert(key: str, value: Any, kind: Any, origin: str) -> Any:
    names = {int: "a whole number", float: "a finite number", bool: "true or false", str: "a text"}
    if kind is float and type(value) is int and abs(value) < 2**1000:
        value = float(value)
    if kind == tuple[str, ...]:
        if isinstance(value, list | tuple) and all(isinstance(x, str) for x in value):
            return tuple(value)
        raise InputError(f"{origin}: {key} must be a list of texts, got {value!r}")
    if type(value) is not kind or kind is float and not math.isfinite(value):
        raise InputError(f"{origin}: {key} must be {names[kind]}, got {value!r}")
    return value


def override(config: Config, flat: dict[str, Any], origin: str) -> Config:
    """The configuration with {"section.key": value} applied; InputError on an unknown key or a wrong type."""
    kinds = _kinds()
    sections: dict[str, dict] = {}
    top = {}
    for key, value in flat.items():
        if key not in kinds:
            raise InputError(f"{origin}: unknown key {key!r}; did you mean {nearest_key(key)!r}?")
        section, _, name = key.rpartition(".")
        (sections.setdefault(section, {}) if section else top)[name] = _convert(key, value, kinds[key], origin)
    for section, values in sections.items():
        top[section] = dataclasses.replace(getattr(config, section), **values)
    return dataclasses.replace(config, **top)


def parse_assignment(text: str) -> tuple[str, Any]:
    """'section.key=value' of --set; the value as TOML would read it, else as a text. Texts need no quotes."""
    key, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not key:
        raise InputError(f"--set {text!r}: expected section.key=value, as in --set train.epochs=10")
    try:
        read = tomllib.loads(f"value = {value}")
    except (ValueError, RecursionError):  # not TOML's, or a number of more digits than Python reads
        return key, value
    # A folder may be called 2024. More than one entry: the value has several lines and is none of TOML's.
    whole = len(read) == 1 and (isinstance(read["value"], str) or _kinds().get(key) is not str)
    return key, read["value"] if whole else value


def config_folder() -> Path:
    """configs/ of the checkout, or of the installed package."""
    installed = Path(__file__).parent / "configs"
    return installed if installed.is_dir() else Path(__file__).parent.parent / "configs"


def read_toml(path: Path) -> dict[str, Any]:
    """{"section.key": value} of a TOML file."""
    try:
        return flatten(tomllib.loads(path.read_text(encoding="utf-8")), str(path))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"cannot read the configuration {path}: {error}") from None


def layers(task: str, preset: str) -> list[tuple[Path, dict[str, Any]]]:
    """(file, its settings by section.key) of each file that a task and a preset choose, in the order of application."""
    folder, files = config_folder(), []
    for name in (task, preset, f"{preset}-{task}"):
        path = folder / f"{name}.toml"
        # The paper's recipe is the defaults and the task's file; a preset need not differ by task.
        if name != "paper" and (name in (task, preset) or path.exists()):
            files.append((path, read_toml(path)))
    return files


def origins(values: dict[str, Any]) -> dict[str, str]:
    """Where each of a run's settings ({"section.key": value}) comes from: "defaults", a file's name, "command line".

    That is the last of the files that sets the key, or the defaults where none does, if the value is the same there.
    """
    found = {key: ("defaults", value) for key, value in flatten(to_dict(Config()), "defaults").items()}
    if values.get("task") in TASKS and values.get("preset") in PRESETS:
        for path, flat in layers(values["task"], values["preset"]):
            found |= {key: (path.name, value) for key, value in flat.items()}
    given = ("command line", None)
    return {key: found[key][0] if found.get(key, given)[1] == value else given[0] for key, value in values.items()}


def resolve(task: str, preset: str = "paper", assignments=(), **top: Any) -> Config:
    """The configuration of a task: defaults <- configs/TASK.toml <- PRESET.toml <- PRESET-TASK.toml <- assignments
    ('k=v').

    `top` sets single keys last, by section.key. Raises InputError on unknown tasks, presets, keys, types and values.
    """
    if preset not in PRESETS:
        raise InputError(f"unknown preset {preset!r}{nearest(preset, PRESETS)}")
    task = task_name(task)
    config = Config(task=task, preset=preset)
    for path, flat in layers(task, preset):
        config = override(config, flat, str(path))
    given = dict(map(parse_assignment, assignments))
    for key in ("task", "preset"):
        if key in given:
            raise InputError(f"--set {key}: the {key} chooses the files of settings; use --{key} {given[key]!r}")
    config = override(config, given, "--set")
    config = override(config, top, "option")
    check(config)
    return config


def load(path: Path) -> Config:
    """A run's config.toml."""
    flat = read_toml(path)
    if unknown := [key for key in flat if key not in _kinds()]:
        raise InputError(
            f"{path}: unknown key {unknown[0]!r}; did you mean {nearest_key(unknown[0])!r}? A run of another version "
            "cannot be continued; a new run can start from its weights (--init)"
        )
    config = override(Config(), flat, str(path))
    config = dataclasses.replace(config, task=task_name(config.task))
    check(config)
    return config


def check(config: Config) -> None:
    """InputError, naming the key, when a value is out of range or two do not go together."""
    check_section("", config)
    for section in dataclasses.fields(config):
        if dataclasses.is_dataclass(settings := getattr(config, section.name)):
            check_section(section.name, settings)
    for network in OURS:
        split_name(getattr(config.model, network), f"model.{network}")
    split_name(config.loss.reconstruction, "loss.reconstruction")
    split_name(config.train.steps, "train.steps")
    try:
        parse_rules(config.data.levels)
    except InputError as error:
        raise InputError(f"data.levels: {error}") from None
    if config.data.validation_every == 1:
        raise InputError("data.validation_every must be 0 (none) or at least 2, got 1")
    if bool(config.data.late_crop) != bool(config.data.late_epochs):
        raise InputError(
            "data.late_crop and data.late_epochs belong together, the side of the crops and the last epochs that have "
            f"them; got {config.data.late_crop} and {config.data.late_epochs}"
        )
    if config.train.per_epoch == 0:
        raise InputError("train.fusion_steps must be positive if meta_steps is 0, got 0")
    if config.train.taught < config.train.epochs and config.train.fusion_steps == 0:
        raise InputError("train.fusion_steps must be positive if later epochs have no meta steps (meta_epochs), got 0")
    if config.model.width % config.model.heads:
        raise InputError(f"model.heads must be a divisor of model.width {config.model.width}, got {config.model.heads}")
    best, scored = config.validation.best, config.validation.metrics or TASK_METRICS[config.task]
    try:
        protocol_metrics("paper", scored)
        protocol_metrics("paper", [best])
    except InputError as error:
        raise InputError(f"validation.metrics or validation.best: {error}") from None
    if best not in scored:
        raise InputError(f"validation.best must be one of the metrics scored ({', '.join(scored)}), got {best!r}")
