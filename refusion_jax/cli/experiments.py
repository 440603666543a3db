"""The command experiments: the paper's Tables 5, 6 and 7 and its figures, one command each."""

import argparse
import signal
import sys
from pathlib import Path

from refusion_jax.cli.common import add_setting_option, printable, program, run_command
from refusion_jax.errors import InputError
from refusion_jax.experiments.plan import BUDGETS, EXPERIMENTS, chosen_rows, find_budget
from refusion_jax.tasks import nearest, task_name

PURPOSES = {
    "table5": "the ablations and the full method",
    "table6": "alpha1 and alpha2 from 0.1 to 10",
    "table7": "parameters of the fusion networks",
    "figures": "w and v as in Fig. 8-14, methods side by side as in Fig. 4-7",
}


def parser(name: str) -> argparse.ArgumentParser:
    """The command line of one experiment."""
    p = argparse.ArgumentParser(
        prog=program(f"experiments {name}"), description=f"The paper's {name}: {PURPOSES[name]}."
    )
    add = p.add_argument
    if name in EXPERIMENTS:
        add("--data", required=True, metavar="DIR", help="folder of pairs or manifest (.csv); the paper: MSRS")
        add("--task", default="ivif", help="the paper: ivif (default)")
        add("--budget", default="small", help=f"length of every training: {', '.join(BUDGETS)} (default small)")
        add("--seeds", type=int, metavar="N", help="trainings of each row, with seeds 0 to N-1 (default: the budget's)")
        add("--rows", nargs="+", metavar="ROW", help="only these rows, such as I VII Ours")
        add("--jobs", type=int, default=1, metavar="N", help="trainings side by side, each on its own GPU (default 1)")
        add_setting_option(p, "a further setting of all rows")
        add(
            "--out",
            metavar="DIR",
            help=f"folder of the experiment, in which a later call goes on (default runs/{name})",
        )
        add("--plan", action="store_true", help="only say what would be run, how long it takes, and by which commands")
    if name == "figures":
        add("--data", required=True, metavar="DIR", help="folder of pairs or manifest (.csv)")
        add("--task", help="ivif, mif, mfif or meie; not needed where the names in --data tell it")
        add("--ckpt", nargs="+", default=[], metavar="CKPT", help="runs, checkpoints, files; NAME=CKPT names a method")
        add("--fused", nargs="+", default=[], metavar="DIR", help="folders of fused images; NAME=DIR names a method")
        add("--table6", metavar="DIR", help="folder of an experiments table6: Fig. 13 and 14")
        add("--pairs", nargs="+", default=[], metavar="NAME", help="pairs to show (default: two of those held out)")
        add(
            "--region",
            nargs=4,
            type=int,
            metavar=("X", "Y", "WIDTH", "HEIGHT"),
            help="rectangle to magnify, pixels (default: where the methods' detail differs most)",
        )
        add("--out", default="figures", metavar="DIR", help="folder of the figures (default figures)")
    return p


def run_table(name: str, arguments) -> int:
    """Trains and scores what is not done yet, and writes the table; returns 0, or 128 + the signal that stopped it."""
    from refusion_jax.experiments import duration, results, runs

    setup, planned = open_table(name, arguments)
    found = {run: result for run in planned if (result := runs.read_result(runs.result_path(setup, run))) is not None}
    todo = [run for run in planned if run not in found]
    print_plan(setup, arguments, planned, todo, duration.pace(setup.budget, found.items()))
    if arguments.plan:
        for run in todo:
            print(printable(" ".join(runs.train_command(setup, run))))
        return 0
    failed = []

    def report(run, result) -> None:
        todo.remove(run)
        if isinstance(result, str):
            failed.append(run)
            said = f"failed: {result}"
        else:
            found[run] = result
            said = "diverged" if "diverged" in result else f"done in {clock(result['seconds'])}"
        pace = duration.pace(setup.budget, found.items())
        left = clock(duration.seconds_left(setup.budget, todo, arguments.jobs, pace))
        count = f"[{len(planned) - len(todo)}/{len(planned)}]"
        print(printable(f"{count} {run.name}: {said}; about {left} left"), flush=True)

    stopped = runs.Runner(setup, arguments.jobs).run(list(todo), report)
    text, paths = results.write_tables(EXPERIMENTS[name], setup, planned, found)
    print("\n".join(map(printable, text.splitlines())))
    print(printable("wrote " + ", ".join(map(str, paths))))
    if stopped:
        print(printable(f"stopped by {signal.Signals(stopped).name}; the same command goes on"))
        return 128 + stopped
    if failed:
        raise InputError(f"{len(failed)} of {len(planned)} trainings failed; the same command tries them again")
    return 0


def open_table(name: str, arguments):
    """(what the trainings of a table share, all of them) of the options; InputError on any that cannot be."""
    from refusion_jax.experiments import folder, runs

    budget = find_budget(arguments.budget)
    rows = chosen_rows(EXPERIMENTS[name], arguments.rows)
    seeds = budget.seeds if arguments.seeds is None else arguments.seeds
    for option, value in (("--seeds", seeds), ("--jobs", arguments.jobs)):
        if value < 1:
            raise InputError(f"{option} must be at least 1, got {value}")
    check_settings(arguments, budget, rows)
    setup = folder.open_folder(
        Path(arguments.out or f"runs/{name}"),
        name,
        Path(arguments.data),
        task_name(arguments.task),
        arguments.budget,
        budget,
        arguments.assignments,
        begin=not arguments.plan,
    )
    return setup, [runs.Run(row, seed) for seed in range(seeds) for row in rows]


def check_settings(arguments, budget, rows) -> None:
    """InputError for settings that no training would take, before anything is written."""
    from refusion_jax import config
    from refusion_jax.experiments.plan import settings_of

    for row in rows:
        for key, _ in map(config.parse_assignment, arguments.assignments):
            if key in (*settings_of(budget, row), "data.dir", "seed"):
                raise InputError(f"--set {key}: this is what the budget and the rows set; leave it out")
        own = [f"{key}={value}" for key, value in settings_of(budget, row).items()]
        config.resolve(arguments.task, "paper", [*own, *arguments.assignments])


def print_plan(setup, arguments, planned, todo, pace) -> None:
    """What is about to be run and how long it will take."""
    from refusion_jax.experiments import duration

    budget = setup.budget
    print(printable(f"{setup.out}: budget {arguments.budget}, data {setup.data_sha256[:16]}"))
    print(budget.lengths)
    seconds = duration.seconds_left(budget, todo, arguments.jobs, pace)
    basis = (
        "at the pace of those done" if pace else "at the pace of two idle CPU cores; the first one done corrects this"
    )
    done = len(planned) - len(todo)
    print(f"{len(planned)} trainings, {done} done; the rest takes about {clock(seconds)} {basis}", flush=True)


def clock(seconds: float | None) -> str:
    """H:MM h, or minutes."""
    if seconds is None:
        return "several calls"
    minutes = round(seconds / 60)
    return f"{minutes // 60}:{minutes % 60:02d} h" if minutes >= 60 else f"{max(minutes, 1)} min"


def run_table7(arguments) -> int:
    """Prints our counts beside the paper's; returns 0."""
    from refusion_jax.evaluation import tables
    from refusion_jax.experiments.parameters import parameter_grid

    print("Table 7: trainable parameters of the fusion networks, as printed and, with *, as counted here")
    print(tables.grid_text(parameter_grid()))
    return 0


def run_figures(arguments) -> int:
    """Draws what the options name; returns 0."""
    from refusion_jax.cli.evaluate import split_name
    from refusion_jax.evaluation.methods import unique_names
    from refusion_jax.experiments import drawing, figures
    from refusion_jax.runtime.compiling import enable_cache

    if not (arguments.ckpt or arguments.fused or arguments.table6):
        raise InputError("nothing to draw: give --ckpt CKPT ..., --fused DIR ... or --table6 DIR")
    figures.pyplot()  # whether it is there, before anything is computed
    enable_cache()
    task = task_name(arguments.task) if arguments.task else None
    out, pairs = Path(arguments.out), drawing.chosen_pairs(Path(arguments.data), task, arguments.pairs)
    given = [split_name(text) for text in (*arguments.ckpt, *arguments.fused)]
    names = unique_names([path for _, path in given], [name for name, _ in given])
    methods, paths = {}, []
    for i, (name, (_, path)) in enumerate(zip(names, given, strict=True)):
        if i < len(arguments.ckpt):
            model, methods[name] = drawing.checkpoint(path)
            task = task or model.task
            if model.params.p is not None:
                folder = out if len(arguments.ckpt) == 1 else out / name.replace("/", "_")
                paths += drawing.draw_weights(model, pairs, folder)
        else:
            methods[name] = drawing.fused_elsewhere(path, pairs)
    if methods:
        region = figures.Region(*arguments.region) if arguments.region else None
        paths += drawing.draw_comparison(methods, task, pairs, region, out)
    if arguments.table6:
        paths += drawing.draw_sweep(Path(arguments.table6), pairs, out)
    for path in paths:
        print(printable(f"wrote {path}"))
    return 0


OTHERS = {"table7": run_table7, "figures": run_figures}


def run(arguments: list[str]) -> int:
    """One experiment; returns its exit status."""
    name, *rest = arguments or ["--help"]
    if name in ("-h", "--help"):
        print(f"usage: {program('experiments NAME')} [...]\n\n{program('experiments NAME')} --help tells more.\n")
        print("\n".join(f"  {one:10s}{purpose}" for one, purpose in PURPOSES.items()))
        return 0
    if name not in PURPOSES:
        raise InputError(f"there is no experiment {name!r}{nearest(name, PURPOSES)}")
    parsed = parser(name).parse_args(rest)
    if name in OTHERS:
        return OTHERS[name](parsed)
    return run_table(name, parsed)


def main(argv: list[str] | None = None) -> int:
    """Entry point. Returns the exit status."""
    return run_command(lambda: run(sys.argv[1:] if argv is None else argv))


if __name__ == "__main__":
    sys.exit(main())
