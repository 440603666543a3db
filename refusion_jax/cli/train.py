"""The command train: train F, R and P on a folder of pairs or on the built-in scenes."""

import argparse
import dataclasses
import shlex
import sys
import traceback
from pathlib import Path

from refusion_jax.cli.common import add_setting_option, printable, program, run_command
from refusion_jax.errors import InputError
from refusion_jax.runtime.memory import restart_with_tuned_malloc
from refusion_jax.tasks import TASKS, task_name


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        prog=program("train"), description="Train ReFusion: F fuses, R rebuilds, P proposes the loss of F."
    )
    add = p.add_argument
    add("--task", help="ivif, mif, mfif or meie; not needed with --resume and where the names in --data tell it")
    add("--data", metavar="DIR", help="folder of pairs or manifest (.csv); without it the built-in scenes are used")
    add("--init", metavar="CKPT", help="start from these weights: a run, a checkpoint, a file, or a task's name")
    add("--out", metavar="DIR", help="run directory (default runs/TASK, or runs/TASK-PRESET)")
    add(
        "--preset",
        help="paper (default): the full recipe; quick: minutes on two CPU cores; tuned: where we depart "
        "from the paper, an hour or two of one CPU core",
    )
    add_setting_option(p, "change one setting; may be given several times")
    add("--resume", action="store_true", help="continue the run in --out from its newest checkpoint")
    add("--max-minutes", type=float, metavar="M", help="stop cleanly after M minutes; --resume goes on")
    add("--seed", type=int, help="seed of everything random (default 0)")
    several = p.add_argument_group(
        "several processes",
        "Each uses the devices of its machine; all need the same options and files, and one --out "
        "that all can write to. Under SLURM or Open MPI --distributed is enough.",
    )
    add = several.add_argument
    add("--distributed", action="store_true", help="this is one of several processes of one training")
    add("--coordinator", metavar="HOST:PORT", help="where process 0 runs, and a free port there")
    add("--num-processes", type=int, metavar="N", help="how many there are")
    add("--process-id", type=int, metavar="I", help="which one this is, from 0")
    return p


# What may differ between a run and its continuation: how long, how fast, and what is written; not what is trained.
MAY_CHANGE = (
    "train.epochs",
    "train.lr_",
    "log.",
    "validation.",
    "checkpoint.",
    "data.cache_mib",
    "data.max_pixels",
    "data.dir",
    "train.devices",
    "train.steps_per_dispatch",
)


def resumed_config(run: Path, arguments):
    """The run's own config.toml with the changes a continuation may make; InputError on any other."""
    from refusion_jax import config

    saved = config.load(run / "config.toml")
    check_not_edited(run, config.flatten(config.to_dict(saved), "saved"))
    flat = dict(map(config.parse_assignment, arguments.assignments))
    if arguments.data is not None:
        flat["data.dir"] = arguments.data
    for name in ("task", "preset", "seed"):
        if (value := getattr(arguments, name)) is not None:
            flat[name] = task_name(value) if name == "task" else value
    new = with_absolute_data(config.override(saved, flat, "--set"))
    config.check(new)
    before, after = config.flatten(config.to_dict(saved), "saved"), config.flatten(config.to_dict(new), "new")
    for key, value in after.items():
        if value != before[key] and not key.startswith(MAY_CHANGE):
            raise InputError(
                f"{run} was trained with {key} = {before[key]!r}, which a continuation cannot change to {value!r}; "
                "leave it out, or start a new run with another --out"
            )
    return new


def check_not_edited(run: Path, settings: dict) -> None:
    """InputError where config.toml was edited to other settings than the newest checkpoint was trained with."""
    from refusion_jax import config
    from refusion_jax.weights import orbax_folder

    newest = orbax_folder.newest(run)
    if newest is None:
        return
    try:
        trained = config.flatten(orbax_folder.read_info(newest)["config"], str(newest))
    except Exception:  # noqa: BLE001 - whatever is wrong with the checkpoint, restoring it says what
        return
    for key, value in settings.items():
        before = trained.get(key, value)
        if value != (tuple(before) if isinstance(value, tuple) else before) and not key.startswith(MAY_CHANGE):
            raise InputError(
                f"{run / 'config.toml'} says {key} = {value!r}, but the run was trained with {before!r} (the checkpoint"
                f" {newest} has it); put that back, or start a new run with another --out"
            )


def with_absolute_data(config):
    """The configuration with the folder or manifest of pairs as an absolute path: a run can go on from anywhere."""
    if not config.data.dir:
        return config
    path = Path(config.data.dir)
    # A manifest that is a link lists files beside the link.
    folder = str(path.resolve() if path.is_dir() else path.parent.resolve() / path.name)
    try:
        folder.encode()
    except UnicodeEncodeError:
        raise InputError(f"{folder}: config.toml cannot hold this name, it is not UTF-8; rename the folder") from None
    return dataclasses.replace(config, data=dataclasses.replace(config.data, dir=folder))


def load_data(config, may_have_moved: bool = False):
    """The training data a configuration names. may_have_moved: a run goes on with those that it began with."""
    from refusion_jax.training import sources

    data = config.data
    if data.dir and may_have_moved and not Path(data.dir).exists():
        raise InputError(f"{data.dir}: the run's data are no longer there; say where they are now with --data DIR")
    if data.dir:
        return sources.from_folder(
            Path(data.dir),
            config.task,
            crop=data.largest_crop,
            validation_every=data.validation_every,
            exclude=data.exclude,
            cache_mib=data.cache_mib,
            max_pixels=data.max_pixels,
            levels=data.levels,
        )
    return sources.built_in(
        config.task,
        config.seed,
        data.scenes,
        data.scene_size,
        crop=data.largest_crop,
        validation_every=data.validation_every,
    )


def settle(arguments):
    """(run directory, whether a run in it goes on, configuration) of the command line; nothing is written."""
    if arguments.resume and arguments.init:
        raise InputError("--init says what a new run starts from, --resume continues a run; leave out one of them")
    if arguments.task is None and not arguments.resume:
        arguments.task = recognised_task(arguments.data)
    out = run_folder(arguments)
    if arguments.resume and (out / "config.toml").exists():
        return out, True, resumed_config(out, arguments)
    if arguments.resume and not out.exists():
        raise InputError(f"{out} does not exist, so there is nothing to resume; leave out --resume to start a run")
    if arguments.resume:
        from refusion_jax.training.run_directory import holds_anything

        if holds_anything(out):
            raise InputError(f"{out} is not a run directory (no config.toml in it); nothing to resume")
    if arguments.task is None:
        raise InputError(f"{out} holds no run yet; give --task to start one")
    return out, False, new_config(arguments)


def recognised_task(data: str | None) -> str:
    """The task that the names in a folder of pairs tell. InputError without a folder and where they tell none."""
    if data is None:
        raise InputError(f"--task is missing: expected one of {', '.join(TASKS)}")
    from refusion_jax.data.search import recognise_task

    task, layout = recognise_task(data)
    print(printable(f"task {task}, recognised by the names in {data} ({layout})"))
    return task


def run_folder(arguments) -> Path:
    """--out, or runs/TASK, or runs/TASK-PRESET."""
    if arguments.out:
        return Path(arguments.out)
    if arguments.task is None:
        raise InputError("--resume needs --task or --out to know which run to continue")
    task, preset = task_name(arguments.task), arguments.preset or "paper"
    return Path("runs") / (task if preset == "paper" else f"{task}-{preset}")


def new_config(arguments):
    """The configuration of a run that begins."""
    from refusion_jax import config

    top = {"data.dir": arguments.data, "seed": arguments.seed, "train.init": arguments.init}
    if arguments.init is not None and (path := Path(arguments.init)).exists():
        top["train.init"] = str(path.resolve())
    given = {key: value for key, value in top.items() if value is not None}
    preset = arguments.preset or "paper"
    return with_absolute_data(config.resolve(arguments.task, preset, arguments.assignments, **given))


def connect(arguments) -> None:
    """With --distributed, joins the other processes; InputError on options that go together only then."""
    given = [name for name in ("coordinator", "num_processes", "process_id") if getattr(arguments, name) is not None]
    if given and not arguments.distributed:
        raise InputError(f"--{given[0].replace('_', '-')} is for one of several processes; add --distributed")
    if arguments.distributed:
        from refusion_jax.training import processes

        processes.connect(arguments.coordinator, arguments.num_processes, arguments.process_id)


def run(arguments) -> int:
    """Trains; returns the exit status: 0 done or at the time limit, 128 + signal when stopped by one."""
    if arguments.max_minutes is not None and not arguments.max_minutes > 0:
        raise InputError(f"--max-minutes must be greater than 0, got {arguments.max_minutes:g}")
    connect(arguments)
    from refusion_jax.training import processes

    # All processes look before one writes: the run that process 0 begins is not one that others find there.
    out, resuming, config = processes.together(lambda: settle(arguments))
    moved = resuming and arguments.data is None
    data = processes.together(lambda: load_data(config, moved))
    from refusion_jax import config as configuration
    from refusion_jax.runtime.compiling import enable_cache
    from refusion_jax.training import devices, loop, run_directory, warm_start

    processes.require_same("settings or pairs", f"{configuration.to_toml(config)}{data.fingerprint}{out.resolve()}")
    devices.data_mesh(config.data.batch, config.train.devices)  # an error before anything is written

    def begin():
        if resuming:
            run_directory.check_same_data(out, data)
            run_directory.write_config(out, config)
        else:
            warm_start.initial_params(config)  # what cannot be a start is found before there is a run directory
            run_directory.create_run(out, config, data)

    processes.from_lead(begin)
    enable_cache()
    if processes.is_lead():
        print_start(config, data, out)
    outcome = loop.train(out, config, data, max_minutes=arguments.max_minutes)
    if processes.is_lead():
        print_outcome(outcome, out)
    return 128 + outcome.signal if outcome.signal else 0


def print_outcome(outcome, out: Path) -> None:
    """How the training ended and what to do next."""
    quoted = shlex.quote(str(out))
    if outcome.finished:
        print(printable(f"done: {outcome.step} steps in {out}"))
        print(printable(f"fuse with: {program('fuse')} --ckpt {quoted} --pair A B"))
    else:
        line = f"stopped by {outcome.reason} after step {outcome.step}; continue with --resume --out {quoted}"
        print(printable(line))


def print_start(config, data, out: Path) -> None:
    """What is about to be trained, on what, with what."""
    import jax

    from refusion_jax.models.operators import depthwise
    from refusion_jax.training import processes

    device, train = jax.devices()[0], config.train
    number = processes.count() * (train.devices or jax.local_device_count())
    where = f"{device.platform} ({device.device_kind})"
    if number > 1:
        where = f"{number} devices, {where}" + (f", of {processes.count()} processes" if processes.count() > 1 else "")
    if not config.data.dir:
        print("no --data given: training on the built-in scenes")
    print(printable(f"task {config.task}, preset {config.preset}, {data.description}"))
    for remark in data.remarks:
        print(printable(f"note: {remark}"))
    if train.init:
        print(printable(f"started from the weights of {train.init}"))
    print(
        f"{train.epochs} epochs of {train.meta_steps} meta and {train.fusion_steps} fusion steps, batch "
        f"{config.data.batch}, {config.data.crop}x{config.data.crop} crops, on {where}"
    )
    if train.taught < train.epochs and train.meta_steps:
        print(f"meta steps in the first {train.taught} epochs; P then stays as it is")
    if train.warmup_steps:
        print(f"before them a warm-up of {train.warmup_steps} fusion steps, in which P is not asked")
    if config.data.late_crop:
        print(f"crops of {config.data.late_crop}x{config.data.late_crop} in the last {config.data.late_epochs} epochs")
    if config.meta.first_order:
        print("meta.first_order is on: P's gradient is zero, so P stays as initialised (a control)")
    if device.platform == "cpu" and depthwise.cpp().reason:
        print(printable(f"steps take a fifth longer than with depthwise.cc: {depthwise.cpp().reason}"))
    print(printable(f"run directory {out}"), flush=True)


def main(argv: list[str] | None = None) -> int:
    """Entry point. Returns the exit status."""
    if argv is None:  # a process of its own
        restart_with_tuned_malloc()
    arguments = parser().parse_args(argv)
    if argv is None:
        from refusion_jax.runtime.compiling import compute_in_calls

        compute_in_calls()
    if not arguments.distributed:
        return run_command(lambda: run(arguments))
    from refusion_jax.training import processes

    try:
        status = run_command(lambda: run(arguments))
    except BaseException as error:
        if processes.is_lost(error):
            print(f"error: {processes.lost_line(error)}", file=sys.stderr)
        else:
            traceback.print_exc()
        status = 2 if processes.is_lost(error) else 1
    return processes.leave(status)


if __name__ == "__main__":
    sys.exit(main())
