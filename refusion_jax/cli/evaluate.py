"""The command evaluate: score checkpoints and folders of fused images on pairs."""

import argparse
import sys
import tempfile
from collections import Counter
from fractions import Fraction
from pathlib import Path

from refusion_jax.cli.common import (
    add_clock_options,
    add_reading_options,
    level_rules,
    printable,
    program,
    progress_bar,
    run_command,
)
from refusion_jax.data.pairs import SPLITS, Discovery, Pair, split_validation
from refusion_jax.data.reading import PairReader
from refusion_jax.data.search import discover, expanded
from refusion_jax.data.slices import has_volumes, sliced
from refusion_jax.errors import InputError
from refusion_jax.evaluation import (
    Method,
    baseline_methods,
    checkpoint_method,
    describe_data,
    evaluate,
    folder_method,
    tables,
)
from refusion_jax.evaluation.methods import unique_names
from refusion_jax.evaluation.paper_tables import load_table
from refusion_jax.imaging.levels import AUTO
from refusion_jax.imaging.ranges import RANGES
from refusion_jax.metrics import protocol_metrics
from refusion_jax.metrics.protocols import task_metrics
from refusion_jax.runtime.disk import scratch_folder
from refusion_jax.tasks import task_name


class _InOrder(argparse.Action):
    """Collects --ckpt and --fused in one list, so that methods keep the order of the command line."""

    def __call__(self, parser, namespace, values, option_string=None):
        namespace.methods = [*(namespace.methods or []), *((self.metavar, value) for value in values or ())]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        prog=program("evaluate"),
        description="Score fused images. Every pair of --data is fused by each --ckpt, or its fused image is "
        "read from each --fused folder; prints a table and writes it with per-image values to --out.",
    )
    add = p.add_argument
    scored = p.add_mutually_exclusive_group(required=True)
    scored.add_argument("--data", metavar="DIR", help="folder of pairs in any known layout, or a manifest (.csv)")
    scored.add_argument(
        "--pair",
        nargs=2,
        metavar=("A", "B"),
        help="in place of --data: two videos, or two folders of frames in order; --fused then names fused videos or "
        "folders of frames, and BiSWE and MS2R are scored",
    )
    add_clock_options(p.add_argument_group("videos (--pair)"))
    add(
        "--split",
        choices=SPLITS,
        help="only the pairs of this part, as folders' names or the manifest tell it; validation, where nothing marks "
        "one: every tenth pair, as train holds out",
    )
    methods = {"dest": "methods", "nargs": "+", "action": _InOrder}
    add("--ckpt", metavar="CKPT", help="runs, checkpoints, weights files; NAME=CKPT names a row", **methods)
    add("--fused", metavar="DIR", help="folders of fused images named as the pairs; NAME=DIR names a row", **methods)
    add("--baselines", action="store_true", help="score the mean of the sources too; for meie also exposure fusion")
    add("--task", help="ivif, mif, mfif or meie: the paper's six metrics of that task, and VIF QABF or MEF-SSIM")
    add("--protocol", default="paper", help="whose definitions: paper (default), cddfuse or mefb")
    add(
        "--metrics",
        nargs="+",
        metavar="M",
        help="EN SD SF AG SCD SSIM VIF QCB QNCIE (the default), MI CC MSE PSNR QABF MEF-SSIM; of --pair too, and BiSWE "
        "MS2R (its default)",
    )
    add("--out", metavar="DIR", help="folder of the results (default: results/NAME of the data)")
    add("--workers", type=int, default=1, metavar="N", help="processes that score (default 1)")
    add_reading_options(p)
    add("--range", choices=RANGES, default="minmax", help="of what --ckpt fuses: minmax (default) as the paper")
    add("--compare-paper", metavar="TABLE", help='put the paper\'s row beside ours, such as "Table 3 Lytro"')
    return p


def split_name(text: str) -> tuple[str | None, Path]:
    """(NAME, PATH) of NAME=PATH; (None, PATH) of a plain path, also of one that exists and has '=' in it."""
    name, equals, path = text.partition("=")
    if not equals or Path(text).exists():
        return None, Path(text)
    if not name or not path:
        raise InputError(f"expected NAME=PATH or a path, got {text!r}")
    return name, Path(path)


def chosen_pairs(found: Discovery, split: str | None) -> list[Pair]:
    """The pairs of a part, or all; says what else should be known of them. InputError if the part is empty.

    Where nothing marks a validation part, it is what a training with default settings holds out.
    """
    for remark in found.remarks:
        print(printable(f"note: {remark}"), file=sys.stderr)
    counts = Counter(pair.split for pair in found.pairs)
    listed = ", ".join(f"{counts[part]} {part or 'of no part'}" for part in (*SPLITS, None) if part in counts)
    if split is None:
        if len(counts) > 1:
            print(
                printable(f"note: {found.source} has {listed} pairs; all are scored (--split takes one part)"),
                file=sys.stderr,
            )
        return list(found.pairs)
    chosen = [pair for pair in found.pairs if pair.split == split]
    if split == "validation" and not chosen and (chosen := split_validation(found.pairs)[1]):
        print(
            printable(
                f"note: {found.source} marks no validation part; scored is every tenth pair by name, as train holds out"
            ),
            file=sys.stderr,
        )
    if not chosen:
        raise InputError(f"--split {split}: {found.source} has no such pairs, but {listed}")
    return chosen


def load_methods(arguments, pairs) -> list[Method]:
    """The methods in the order given. Folders are checked first: loading checkpoints takes longer."""
    words = [(kind, word) for kind, text in arguments.methods or () for word in map(str, expanded(text))]
    given = [(kind, *split_name(word)) for kind, word in words]
    names = unique_names([path for _, _, path in given], [name for _, name, _ in given])
    folders = {i: folder_method(names[i], path, pairs) for i, (kind, _, path) in enumerate(given) if kind == "DIR"}
    if len(folders) < len(given):
        from refusion_jax.runtime.compiling import enable_cache

        enable_cache()
    return [
        folders.get(i) or checkpoint_method(names[i], path, arguments.range) for i, (_, _, path) in enumerate(given)
    ]


def run(arguments) -> int:
    """Scores, prints and writes; returns 0."""
    if arguments.pair:
        return evaluate_video(arguments)
    if arguments.start is not None or arguments.offset is not None:
        raise InputError("--start and --offset are for videos; give --pair A B")
    with tempfile.TemporaryDirectory(prefix="slices-", dir=scratch_folder()) as folder:
        return _scored(arguments, Path(folder))


def _scored(arguments, folder: Path) -> int:
    """`run`, with a folder for the slices of volumes."""
    if not (arguments.methods or arguments.baselines):
        raise InputError("nothing to score: give --ckpt CKPT ..., --fused DIR ... or --baselines")
    task = task_name(arguments.task) if arguments.task else None
    names = arguments.metrics or (task_metrics(task, arguments.protocol) if task else None)
    chosen = protocol_metrics(arguments.protocol, names)
    table = load_table(arguments.compare_paper) if arguments.compare_paper else None
    if table is not None:
        tables.shared_metrics(chosen, table)
    found = discover(Path(arguments.data), task).require()
    pairs = chosen_pairs(found, arguments.split)
    rules = level_rules(arguments)
    if has_volumes(pairs):
        cut = sliced(pairs, folder, rules, max_voxels=arguments.max_pixels).require()
        pairs, rules = cut.pairs, None
        for remark in cut.remarks:
            print(printable(f"note: {remark}"), file=sys.stderr)
    methods = load_methods(arguments, pairs)
    data_task = task or known_task(methods, found)
    if arguments.baselines:
        methods += baseline_methods(data_task)
        unique_names([Path()] * len(methods), [method.name for method in methods])
    data = describe_data(Path(arguments.data), data_task, pairs)
    reader = PairReader(data.task, rules, arguments.max_pixels).over(pairs)
    for remark in reader.remarks(pairs):
        print(printable(f"note: {remark}"), file=sys.stderr)
    out = output_folder(arguments)
    with progress_bar(len(methods) * len(pairs), "pair") as bar:

        def progress(method: str, pair: str) -> None:
            bar.set_description_str(method, refresh=False)
            bar.update()

        evaluation = evaluate(
            data,
            methods,
            arguments.protocol,
            [m.name for m in chosen],
            table=out / tables.PER_IMAGE,
            reader=reader,
            workers=arguments.workers,
            progress=progress,
        )
    written = tables.write_reports(out, evaluation, table)
    print(tables.as_text(evaluation, table))
    if evaluation.blank:
        names = ", ".join(evaluation.blank[:3]) + (", ..." if len(evaluation.blank) > 3 else "")
        count = len(evaluation.blank)
        print(printable(f"note: in {count} of {len(pairs)} pairs a source is blank ({names}); they count in the means"))
    print("wrote " + ", ".join(str(path) for path in [out / tables.PER_IMAGE, *written]))
    return 0


def evaluate_video(arguments) -> int:
    """Scores fused videos or folders of frames, prints and writes; returns 0."""
    from refusion_jax.evaluation.videos import dis_flow, evaluate_videos, open_moving, order_remarks, video_metrics

    given = [(kind, *split_name(word)) for kind, word in arguments.methods or ()]
    if not given or any(kind != "DIR" for kind, _, _ in given) or arguments.baselines or arguments.split:
        raise InputError(
            "--pair scores videos that are fused already: give --fused VIDEO ... and neither --ckpt nor such"
        )
    if arguments.compare_paper:
        raise InputError("--compare-paper is for pictures: the paper has no videos; leave it out")
    task = task_name(arguments.task) if arguments.task else None
    metrics = video_metrics(arguments.metrics, arguments.protocol)
    names = unique_names([path for _, _, path in given], [name for _, name, _ in given])
    limit = arguments.max_pixels
    sources = open_moving([Path(path) for path in arguments.pair], level_rules(arguments) or (AUTO, AUTO), task, limit)
    fused = [
        (Method(name, folder=str(path)), open_moving([path], max_pixels=limit)[0])
        for name, (_, _, path) in zip(names, given, strict=True)
    ]
    for remark in order_remarks(sources, [one for _, one in fused], arguments.start, arguments.offset):
        print(printable(f"note: {remark}"), file=sys.stderr)
    out = output_folder(arguments)
    with progress_bar(fused[0][1].count, "frame") as bar:
        evaluation = evaluate_videos(
            sources,
            fused,
            dis_flow(),
            metrics,
            task=task,
            protocol=arguments.protocol,
            start=arguments.start or Fraction(0),
            offset=arguments.offset or Fraction(0),
            table=out / tables.PER_IMAGE,
            progress=bar.update,
        )
    written = tables.write_reports(out, evaluation)
    print(tables.as_text(evaluation))
    print("wrote " + ", ".join(str(path) for path in [out / tables.PER_IMAGE, *written]))
    return 0


def known_task(methods: list[Method], found: Discovery) -> str | None:
    """The task in whose order the sources count: that of all checkpoints, else the one that the data's names tell."""
    trained = {method.task for method in methods if method.task}
    if len(trained) == 1:
        return trained.pop()
    if found.task:
        layouts = ", ".join(dict.fromkeys(group.layout for group in found.groups))
        print(printable(f"task {found.task}, recognised by the names in {found.source} ({layouts})"))
    return found.task


def output_folder(arguments) -> Path:
    """--out, or results/NAME of the data; without the tables of an earlier run, so that none lie beside new rows."""
    data = Path(arguments.data or arguments.pair[1])
    own_name = data.resolve().name if data.is_dir() else data.stem
    out = Path(arguments.out) if arguments.out else Path("results") / (own_name or "data")
    for name in (tables.SUMMARY, tables.MARKDOWN, tables.LATEX):
        (out / name).unlink(missing_ok=True)
    return out


def main(argv: list[str] | None = None) -> int:
    """Entry point. Returns the exit status."""
    arguments = parser().parse_args(argv)
    return run_command(lambda: run(arguments))


if __name__ == "__main__":
    sys.exit(main())
