"""The command weights: trained weights exported as one .safetensors file, or described."""

import argparse
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from refusion_jax import config
from refusion_jax.cli.common import printable, program, run_command
from refusion_jax.errors import InputError
from refusion_jax.fusing.model import load
from refusion_jax.report.run import pair_names
from refusion_jax.settings import as_set
from refusion_jax.training.records import read_metrics
from refusion_jax.weights.safetensors_file import write_safetensors
from refusion_jax.weights.trees import by_name, count

ANY_WEIGHTS = "a run directory, a checkpoint inside one, a .safetensors or .pth file, or a task's name"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(prog=program("weights"), description="Export trained weights, or say what they are.")
    actions = p.add_subparsers(dest="action", required=True)
    export = actions.add_parser("export", help="write the parameters as one .safetensors file")
    export.add_argument("checkpoint", metavar="CKPT", help=ANY_WEIGHTS)
    export.add_argument("out", type=Path, help="the .safetensors file to write")
    export.set_defaults(run=export_weights)
    show = actions.add_parser("show", help="say what the weights are: task, size, settings, step, scores, command")
    show.add_argument("checkpoint", metavar="CKPT", help=ANY_WEIGHTS)
    show.set_defaults(run=show_weights)
    return p


def export_weights(arguments) -> int:
    """Writes OUT; returns 0."""
    if arguments.out.suffix != ".safetensors":
        raise InputError(f"expected an output name ending in .safetensors, got {arguments.out}")
    if arguments.out.exists():
        raise InputError(f"{arguments.out} exists already; choose another name or delete it first")
    model = load(arguments.checkpoint)
    write_safetensors(arguments.out, model.params, model.info | run_facts(Path(arguments.checkpoint), model.info))
    print(printable(f"wrote {arguments.out} ({', '.join(by_name(model.params))})"))
    return 0


def show_weights(arguments) -> int:
    """Prints what is known of the weights, a line each; returns 0."""
    model = load(arguments.checkpoint)
    counts = {name: count(tree) for name, tree in by_name(model.params).items()}
    lines = {
        "task": model.task or "not known",
        "parameters": ", ".join(f"{name} {number:,}" for name, number in counts.items()),
        "model": ", ".join(f"{key} {unquoted(value)}" for key, value in asdict(model.settings).items() if value != ""),
        "settings": (", ".join(changed_settings(model.info)) or "the defaults")
        if "loss" in model.info
        else "not known",
    }
    for key, value in (model.info | run_facts(Path(arguments.checkpoint), model.info)).items():
        if key not in ("task", "model", "loss", "config") and value != "":
            lines[key] = shown(value)
    if model.task and isinstance(model.info.get("config"), dict):
        lines["made by"] = training_command(model.info)
    for key, value in lines.items():
        print(printable(f"{key:12s}{value}"))
    return 0


def run_facts(path: Path, info: dict[str, Any]) -> dict[str, Any]:
    """Of a run directory, or a checkpoint inside one: the number of pairs, and the scores at the step of the weights.

    Empty for anything else, and what the run's records do not tell is left out.
    """
    run = next((folder for folder in (path, *path.parents[:2]) if (folder / "pairs.json").is_file()), None)
    if run is None or not path.is_dir():
        return {}
    train, held_out = pair_names(run)
    facts: dict[str, Any] = {} if train is None else {"pairs": {"trained on": len(train), "held out": len(held_out)}}
    of_this_step = [r for r in read_metrics(run) if r.get("phase") == "validation" and r["step"] == info.get("step")]
    for record in of_this_step[-1:]:
        facts["scores"] = {key: x for key, x in record.items() if key not in ("step", "epoch", "phase")}
    return facts


def training_command(info: dict[str, Any]) -> str:
    """The command that makes the weights again, from the settings stored with them; DIR stands for the pairs."""
    task, preset = str(info.get("task")), str(info.get("preset"))
    stored = info["config"] | {key: info.get(key, {}) for key in ("model", "loss")}
    used = config.flatten(stored, "the weights")
    try:
        usual = config.flatten(config.to_dict(config.resolve(task, preset)), "")
    except InputError:  # a preset of another version
        preset, usual = "paper", config.flatten(config.to_dict(config.resolve(task)), "")
    words = [f"python train.py --task {task} --preset {preset} --data DIR --seed {used.pop('seed', 0)}"]
    if init := used.pop("train.init", ""):
        words.append(f"--init {shlex.quote(str(init))}")
    differ = {k: x for k, x in used.items() if k not in usual or usual[k] != x}
    words += [f"--set {shlex.quote(f'{key}={unquoted(value)}')}" for key, value in differ.items()]
    return " ".join(words)


def unquoted(value: Any) -> str:
    """A setting's value as --set takes it, text without quotes."""
    return value if isinstance(value, str) else as_set(value)


def changed_settings(info: dict[str, Any]) -> list[str]:
    """The model's and the loss's settings that differ from the defaults, as --set takes them."""
    defaults = config.to_dict(config.Config())
    return [
        f"{section}.{key}={unquoted(value)}"
        for section in ("model", "loss")
        for key, value in info.get(section, {}).items()
        if value != defaults[section].get(key)
    ]


def shown(value: Any) -> str:
    """A value of the stored information on one line; tables as `key value, key value`."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {shown(x)}" for key, x in value.items())
    if isinstance(value, list):
        return ", ".join(map(shown, value))
    return f"{value:,}" if type(value) is int else f"{value:.4g}" if isinstance(value, float) else str(value)


def main(argv: list[str] | None = None) -> int:
    """Entry point. Returns the exit status."""
    arguments = parser().parse_args(argv)
    return run_command(lambda: arguments.run(arguments))


if __name__ == "__main__":
    sys.exit(main())
