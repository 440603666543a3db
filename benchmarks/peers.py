"""Ours, the released weights, other methods' results and the baselines on the validation pairs of each data set.

Run from the checkout: python benchmarks/peers.py [DATASET ...] [--ckpt TASK=CKPT] [--update docs/results.md]

Validation pairs are every tenth by sorted name. Needs ../shared: data/, peers/TASK/DATASET/METHOD/NAME.png and
reference/official_weights. Per-image scores go to results/peers/DATASET.
"""

import argparse
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

REPO = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPO))

from refusion_jax.data.pairs import split_validation  # noqa: E402
from refusion_jax.data.search import discover  # noqa: E402
from refusion_jax.evaluation import (  # noqa: E402
    Evaluation,
    baseline_methods,
    checkpoint_method,
    describe_data,
    evaluate,
    folder_method,
    mean_ranks,
    tables,
)
from refusion_jax.metrics import TASK_METRICS  # noqa: E402
from refusion_jax.runtime.compiling import enable_cache  # noqa: E402

DATASETS = {  # name: (task, folder in shared/data)
    "RoadScene": ("ivif", "ivif/RoadScene"),
    "MSRS": ("ivif", "MSRS"),
    "AANLIB": ("mif", "mif/AANLIB"),
    "MFIFB": ("mfif", "mfif/MFIFB"),
    "MEFB": ("meie", "meie/MEFB"),
}
PEERS = {
    "cunet": "CU-Net (2020)",
    "gesenet": "GeSeNet (2023)",
    "ifcnn": "IFCNN (2020)",
    "matr": "MATR (2022)",
    "mefnet": "MEFNet (2019)",
    "mmdrfuse": "MMDRFuse (2024)",
    "sdnet": "SDNet (2021)",
    "seafusion": "SeAFusion (2022)",
    "stackmff": "StackMFF V4",
}
BESIDE = {"ivif": ["VIF", "QABF"], "mif": ["VIF", "QABF"], "mfif": ["QABF"], "meie": ["QABF", "MEF-SSIM"]}
RELEASED = {"ivif": "IVIF", "mif": "MIF", "mfif": "MFIF", "meie": "MEIF"}
OURS, THEIRS = "ours", "ReFusion, released"
RESAMPLES = 2000


def scored(name: str, shared: Path, ckpt: str, workers: int) -> Evaluation:
    """All methods on the validation pairs of a data set; checkpoints are stretched to the full range."""
    task, folder = DATASETS[name]
    pairs = split_validation(discover(shared / "data" / folder, task).require().pairs)[1]
    weights = shared / "reference" / "official_weights" / f"ReFusion_{RELEASED[task]}.pth"
    methods = [checkpoint_method(OURS, ckpt), checkpoint_method(THEIRS, weights)]
    for peer in sorted((shared / "peers" / task / name).iterdir()):
        methods.append(folder_method(PEERS.get(peer.name, peer.name), peer, pairs))
    methods += baseline_methods(task)
    out = REPO / "results" / "peers" / name
    evaluation = evaluate(
        describe_data(shared / "data" / folder, task, pairs),
        methods,
        metrics=[*TASK_METRICS[task], *BESIDE[task]],
        table=out / tables.PER_IMAGE,
        workers=workers,
    )
    tables.write_reports(out, evaluation)
    return evaluation


def ranks_of_six(evaluation: Evaluation) -> list[float]:
    """Mean ranks over the six metrics that the paper has for the task."""
    six = TASK_METRICS[str(evaluation.data.task)]
    return replace(evaluation, metrics=tuple(m for m in evaluation.metrics if m.name in six)).mean_ranks()


def first_places(evaluation: Evaluation) -> np.ndarray:
    """How often each method has the best mean rank over the six metrics if the pairs are drawn anew, in per cent."""
    six = TASK_METRICS[str(evaluation.data.task)]
    better = [m.higher_is_better for m in evaluation.metrics if m.name in six]
    scores = np.array([[[row[m] for m in six] for row in r.scores.values()] for r in evaluation.results])
    pairs = scores.shape[1]
    drawn = np.random.default_rng(0).multinomial(pairs, np.full(pairs, 1 / pairs), RESAMPLES) / pairs
    ranks = mean_ranks(np.einsum("rp,mpk->rmk", drawn, scores), better)
    first = ranks == ranks.min(axis=1, keepdims=True)
    return 100 * (first / first.sum(axis=1, keepdims=True)).mean(axis=0)


def table(evaluation: Evaluation) -> str:
    """Means of all metrics, mean ranks and first places as Markdown, best first; the best of a column is bold."""
    rows = [[r.mean(m.name) for m in evaluation.metrics] for r in evaluation.results]
    columns = [(m.name, "{:.3f}", m.higher_is_better) for m in evaluation.metrics]
    columns += [("rank of six", "{:.2f}", False), ("rank of all", "{:.2f}", False), ("first", "{:.0f} %", True)]
    added = zip(ranks_of_six(evaluation), evaluation.mean_ranks(), first_places(evaluation), strict=True)
    values = np.array([[*row, *more] for row, more in zip(rows, added, strict=True)])
    texts = [[form.format(x) for x, (_, form, _) in zip(row, columns, strict=True)] for row in values]
    best = [max(column) if higher else min(column) for column, (_, _, higher) in zip(values.T, columns, strict=True)]
    best = [form.format(x) for x, (_, form, _) in zip(best, columns, strict=True)]
    order = np.argsort(ranks_of_six(evaluation), kind="stable")
    lines = [f"| {len(evaluation.data.pairs)} pairs | " + " | ".join(name for name, _, _ in columns) + " |"]
    lines.append("| --- |" + " ---: |" * len(columns))
    for i in order:
        cells = (f"**{x}**" if x == top else x for x, top in zip(texts[i], best, strict=True))
        lines.append(f"| {evaluation.results[i].method.name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def summary(evaluations: dict[str, Evaluation]) -> str:
    """Mean ranks over the six metrics on all data sets as Markdown."""
    heads = ("", "methods", "ours", "released", "best other", "mean of sources")
    lines = [f"| {' | '.join(heads)} |", "| --- |" + " ---: |" * 5]
    for name, evaluation in evaluations.items():
        names = [result.method.name for result in evaluation.results]
        ranks = dict(zip(names, ranks_of_six(evaluation), strict=True))
        other = min((n for n in names if n not in (OURS, THEIRS, "mean of sources")), key=ranks.__getitem__)
        cells = [f"{ranks[OURS]:.2f}", f"{ranks[THEIRS]:.2f}", f"{other} {ranks[other]:.2f}"]
        lines.append(f"| {name} | {len(names)} | {' | '.join(cells)} | {ranks['mean of sources']:.2f} |")
    return "\n".join(lines)


def update(page: Path, parts: dict[str, str]) -> None:
    """Replaces what stands between the comments <!-- NAME --> and <!-- end --> of a page."""
    text = page.read_text(encoding="utf-8")
    for name, part in parts.items():
        text, found = re.subn(rf"(<!-- {name} -->\n).*?(<!-- end -->)", rf"\1\n{part}\n\n\2", text, flags=re.DOTALL)
        if not found:
            sys.exit(f"error: {page} has no <!-- {name} --> ... <!-- end -->")
    page.write_text(text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", nargs="*", metavar="DATASET", help=f"{', '.join(DATASETS)} (all)")
    parser.add_argument("--ckpt", nargs="+", default=[], metavar="TASK=CKPT", help="in place of the package's weights")
    parser.add_argument("--update", type=Path, metavar="PAGE", help="write the tables into this page too")
    parser.add_argument("--shared", type=Path, default=REPO.parent / "shared", help="data, peers and released weights")
    parser.add_argument("--workers", type=int, default=1, help="processes that score (1)")
    arguments = parser.parse_args()
    names = arguments.datasets or list(DATASETS)
    if unknown := set(names) - set(DATASETS):
        parser.error(f"unknown data set {', '.join(unknown)}; there are {', '.join(DATASETS)}")
    ours = dict(text.split("=", 1) for text in arguments.ckpt)
    enable_cache()
    evaluations, parts = {}, {}
    for name in names:
        task = DATASETS[name][0]
        evaluations[name] = scored(name, arguments.shared, ours.get(task, task), arguments.workers)
        parts[name] = table(evaluations[name])
        print(f"\n{name}\n\n{parts[name]}", flush=True)
    if len(names) == len(DATASETS):
        parts["summary"] = summary(evaluations)
        print(f"\n{parts['summary']}")
    if arguments.update:
        update(arguments.update, parts)


if __name__ == "__main__":
    main()
