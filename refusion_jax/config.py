"""The configuration: every key declared, explained and checked once; TOML files and --set are diffs to it.

Order of application: the defaults below (the paper's recipe) <- configs/TASK.toml <- configs/PRESET.toml
<- configs/PRESET-TASK.toml, where there is one <- --set.
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
from refusion_jax.method.losses import SOBEL_FORMS
from refusion_jax.metrics import TASK_METRICS, protocol_metrics
from refusion_jax.models.build import OURS, ModelSettings, split_name
from refusion_jax.tasks import TASK_ALIASES, TASKS

PRESETS = ("paper", "quick", "tuned")
OPTIMIZERS = ("adam", "normalized")
PRECISIONS = ("float32", "bfloat16")
RECOMPUTE = ("auto", "on", "off")


@dataclass(frozen=True)
class DataConfig:
    """Where pairs come from and how batches are cut from them."""

    dir: str = ""  # folder of pairs or manifest; "" = the built-in scenes
    crop: int = 128  # side of the square training crops, pixels
    batch: int = 4  # pairs a batch
    flips: bool = True  # random horizontal and vertical flips, the same for both sources
    swap_sources: bool = True  # every second pair of a batch in the order (b, a), so no constant preference can win
    validation_every: int = 10  # every n-th pair by sorted name is held out and never trained on; 0 = none
    exclude: tuple[str, ...] = ()  # names of pairs to leave out altogether
    cache_mib: int = 4096  # decoded luma images kept in memory up to this many MiB
    scenes: int = 96  # number of built-in scenes when dir is ""
    scene_size: int = 256  # their side, pixels


@dataclass(frozen=True)
class LossConfig:
    """Eq. 1-6."""

    alpha1: float = 1.0  # weight of the gradient term in L_f (Eq. 1)
    alpha2: float = 1.0  # weight of the gradient term in L_r (Eq. 4)
    sobel_form: str = "l1"  # l1 |gx|+|gy|, magnitude sqrt(gx^2+gy^2), or components (gx, gy)
    w_floor: float = 0.0  # the least intensity weight of a source; above 0, w cannot collapse onto one of them
    proposal_form: str = ""  # the form of the gradients that P sees; "" = sobel_form
    sobel_scale: float = 1.0  # factor on the Sobel kernel; sets the balance of gradient against intensity


@dataclass(frozen=True)
class MetaConfig:
    """The inner step and P's own optimiser (Eq. 7-10)."""

    inner_steps: int = 1  # explicit SGD steps from F to F'
    eta_f: float = 0.0  # step size of Eq. 7; 0 = F's current learning rate
    eta_r: float = 0.0  # step size of Eq. 8; 0 = R's current learning rate
    first_order: bool = False  # drop the second-order term; P's gradient is then zero (a control)
    optimizer: str = "adam"  # adam, or normalized: the gradient divided by its largest entry, then plain descent
    adam_eps: float = 1e-16  # far below Adam's usual 1e-8, which would swallow a gradient that carries eta_f


@dataclass(frozen=True)
class TrainConfig:
    """Algorithm 1's lengths, the learning rates, and how the machine is used."""

    epochs: int = 50  # L
    meta_steps: int = 600  # M, a epoch
    fusion_steps: int = 1600  # N, a epoch
    lr_f: float = 1e-4  # Adam, F
    lr_r: float = 1e-4  # Adam, R
    lr_p: float = 1e-4  # of P's optimiser
    lr_decay: float = 1.0  # all learning rates times this ...
    lr_decay_epochs: int = 10  # ... every so many epochs
    precision: str = "float32"  # of the networks' activations; bfloat16 halves what an accelerator moves
    recompute: str = "auto"  # on: the meta step evaluates P twice to keep less in memory; auto: on a CPU
    init: str = ""  # checkpoint (or a task's name) whose weights are the start; "" = random ones
    devices: int = 0  # devices (of each process) over which every batch is divided; 0 = all there are
    # Steps handed to the devices in one program; 0 = 1 on a CPU, 10 on an accelerator. Single ones where a phase or the
    # steps to the next checkpoint of checkpoint.every_steps, leave no room. Stops take effect between programs.
    steps_per_dispatch: int = 0


@dataclass(frozen=True)
class LogConfig:
    """What is written while training."""

    every: int = 10  # steps between lines of metrics.jsonl
    tensorboard: bool = True  # also write TensorBoard event files
    preview_every: int = 1  # epochs between preview pictures
    preview_pairs: int = 3  # rows of a preview
    preview_size: int = 256  # side of the centre crop shown, pixels


@dataclass(frozen=True)
class ValidationConfig:
    """Scores of the held-out pairs while training."""

    every: int = 5  # epochs between scorings (the last epoch is always scored); 0 = never
    pairs: int = 16  # at most so many pairs, the first by name
    metrics: tuple[str, ...] = ()  # () = the paper's six of the task
    best: str = "VIF"  # the checkpoint with the best mean of this metric is kept in RUN/best


@dataclass(frozen=True)
class CheckpointConfig:
    """When checkpoints are written; one is always written at the end of an epoch and when training stops."""

    keep: int = 3  # the last so many are kept
    every_minutes: float = 10.0  # also after so many minutes; 0 = off
    every_steps: int = 0  # also after so many steps; 0 = off


@dataclass(frozen=True)
class Config:
    """Everything that determines a run."""

    task: str = "meie"
    preset: str = "paper"
    seed: int = 0
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelSettings = field(default_factory=ModelSettings)
    loss: LossConfig = field(default_factory=LossConfig)
    meta: MetaConfig = field(default_factory=MetaConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    log: LogConfig = field(default_factory=LogConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)


def task_name(name: str) -> str:
    """The canonical task name; `meif` means meie. InputError with the nearest name otherwise."""
    lower = name.lower()
    lower = TASK_ALIASES.get(lower, lower)
    if lower not in TASKS:
        raise InputError(f"unknown task {name!r}: expected one of {', '.join(TASKS)}{nearest(lower, TASKS)}")
    return lower


def nearest(word: str, known) -> str:
    """'; did you mean X?' for the closest known word, or nothing."""
    found = difflib.get_close_matches(word, list(known), 1, 0.5)
    return f"; did you mean {found[0]!r}?" if found else ""


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

    def plain(x):
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
        raise InputError(f"unknown preset {preset!r}: expected one of {', '.join(PRESETS)}{nearest(preset, PRESETS)}")
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
    config = override(Config(), read_toml(path), str(path))
    config = dataclasses.replace(config, task=task_name(config.task))
    check(config)
    return config


def check(config: Config) -> None:
    """InputError, naming the key, when a value is out of range or two do not go together."""

    def need(ok: bool, key: str, expected: str) -> None:
        if not ok:
            value = config
            for part in key.split("."):
                value = getattr(value, part)
            raise InputError(f"{key} must be {expected}, got {value!r}")

    need(config.task in TASKS, "task", f"one of {', '.join(TASKS)}")
    need(config.preset in PRESETS, "preset", f"one of {', '.join(PRESETS)}")
    for key in (
        "data.batch",
        "data.scene_size",
        "model.width",
        "model.heads",
        "model.blocks",
        "model.expansion",
        "meta.inner_steps",
        "train.epochs",
        "train.lr_decay_epochs",
        "log.every",
        "log.preview_every",
        "checkpoint.keep",
    ):
        section, name = key.split(".")
        need(getattr(getattr(config, section), name) >= 1, key, "at least 1")
    for key in (
        "seed",
        "data.validation_every",
        "data.cache_mib",
        "train.meta_steps",
        "train.fusion_steps",
        "train.devices",
        "train.steps_per_dispatch",
        "log.preview_pairs",
        "validation.every",
        "checkpoint.every_minutes",
        "checkpoint.every_steps",
        "meta.eta_f",
        "meta.eta_r",
        "loss.alpha1",
        "loss.alpha2",
    ):
        section, _, name = key.rpartition(".")
        need(getattr(getattr(config, section) if section else config, name) >= 0, key, "0 or more")
    for key in ("train.lr_f", "train.lr_r", "train.lr_p", "train.lr_decay", "loss.sobel_scale", "meta.adam_eps"):
        section, name = key.split(".")
        need(getattr(getattr(config, section), name) > 0, key, "greater than 0")
    need(config.seed < 2**31, "seed", "below 2^31")
    need(config.data.scenes >= 2, "data.scenes", "at least 2")
    need(config.data.crop >= 8, "data.crop", "at least 8")
    need(config.log.preview_size >= 8, "log.preview_size", "at least 8")
    need(config.data.validation_every != 1, "data.validation_every", "0 (none) or at least 2")
    need(not config.data.swap_sources or config.data.batch > 1, "data.batch", "at least 2 with data.swap_sources")
    need(config.train.meta_steps + config.train.fusion_steps > 0, "train.fusion_steps", "positive if meta_steps is 0")
    need(config.model.width % config.model.heads == 0, "model.heads", f"a divisor of model.width {config.model.width}")
    for setting in OURS:
        split_name(getattr(config.model, setting), setting)
    need(config.loss.sobel_form in SOBEL_FORMS, "loss.sobel_form", " or ".join(SOBEL_FORMS))
    need(config.train.precision in PRECISIONS, "train.precision", " or ".join(PRECISIONS))
    need(config.train.recompute in RECOMPUTE, "train.recompute", " or ".join(RECOMPUTE))
    need(0 <= config.loss.w_floor < 0.5, "loss.w_floor", "at least 0 and below 0.5")
    need(config.loss.proposal_form in ("", *SOBEL_FORMS), "loss.proposal_form", " or ".join(("empty", *SOBEL_FORMS)))
    need(config.validation.pairs >= 1, "validation.pairs", "at least 1")
    scored = config.validation.metrics or TASK_METRICS[task_name(config.task)]
    try:
        protocol_metrics("paper", scored)
        protocol_metrics("paper", [config.validation.best])
    except InputError as error:
        raise InputError(f"validation.metrics or validation.best: {error}") from None
    if config.validation.best not in scored:
        raise InputError(
            f"validation.best must be one of the metrics scored ({', '.join(scored)}), got {config.validation.best!r}"
        )
    need(config.meta.optimizer in OPTIMIZERS, "meta.optimizer", " or ".join(OPTIMIZERS))
