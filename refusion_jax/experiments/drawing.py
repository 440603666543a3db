"""What the figures show: pairs fused by checkpoints or elsewhere, the weights of P, the runs of a Table 6."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from refusion_jax.data.pairs import Pair
from refusion_jax.data.search import discover
from refusion_jax.errors import InputError
from refusion_jax.evaluation.methods import find_fused
from refusion_jax.experiments import figures
from refusion_jax.experiments.folder import divided
from refusion_jax.experiments.plan import ALPHAS, FULL
from refusion_jax.experiments.runs import read_result
from refusion_jax.fusing.model import Model, load
from refusion_jax.imaging.files import read_image
from refusion_jax.tasks import nearest

SHOWN = 2  # pairs, where none are named


def chosen_pairs(data: Path, task: str | None, names: Sequence[str]) -> list[Pair]:
    """The pairs named; else the first that no training on this data has seen. InputError for an unknown name."""
    found = discover(data, task).require().pairs
    if not names:
        pairs, split = divided(found, data)
        return [pair for pair in pairs if pair.split == split][:SHOWN]
    by_name = {pair.name: pair for pair in found}
    for name in names:
        if name not in by_name:
            raise InputError(f"{data}: there is no pair {name!r}{nearest(name, list(by_name)[:20])}")
    return [by_name[name] for name in names]


def weight_maps(model: Model, a: np.ndarray, b: np.ndarray) -> list[np.ndarray]:
    """w_a, w_b, v_a, v_b, (H,W) each."""
    w, v = model.maps(a, b)
    return [w[..., 0], w[..., 1], v[..., 0], v[..., 1]]


def draw_weights(model: Model, pairs: Sequence[Pair], out: Path) -> list[Path]:
    """Fig. 8-12: a figure of each pair, since pairs may have several sizes."""
    heads = (*figures.HEADS.get(model.task or "", ("source a", "source b")), "fused")
    paths = []
    for pair in pairs:
        a, b = read_image(pair.a), read_image(pair.b)
        row = pair.name, [a, b, model.fuse(a, b, "minmax")], weight_maps(model, a, b)
        paths += figures.save(figures.weight_figure([row], heads), out / f"weights-{file_name(pair)}")
    return paths


def draw_comparison(
    methods: dict[str, Callable[[Pair], np.ndarray]],
    task: str | None,
    pairs: Sequence[Pair],
    region: figures.Region | None,
    out: Path,
) -> list[Path]:
    """Fig. 4-7: the sources and every method's picture of each pair, with one region magnified."""
    names = figures.HEADS.get(task or "", ("source a", "source b"))
    paths = []
    for pair in pairs:
        sources = dict(zip(names, (read_image(pair.a), read_image(pair.b)), strict=True))
        fused = {name: fuse(pair) for name, fuse in methods.items()}
        for name, picture in fused.items():
            if picture.shape[:2] != sources[names[0]].shape[:2]:
                raise InputError(f"{name}, pair '{pair.name}': the fused picture has not the size of its sources")
        # Of a single method: where its sources differ most.
        shown = region or figures.most_different(list((fused if len(fused) > 1 else sources).values()))
        shown.check(sources[names[0]].shape, f"pair '{pair.name}'")
        figure = figures.comparison_figure({**sources, **fused}, shown)
        paths += figures.save(figure, out / f"methods-{file_name(pair)}")
    return paths


def draw_sweep(table6: Path, pairs: Sequence[Pair], out: Path) -> list[Path]:
    """Fig. 13 and 14: the fused picture and the weights over alpha1 and over alpha2, from the runs of a Table 6."""
    paths = []
    for name in ("alpha1", "alpha2"):
        models = list(sweep_models(table6, name))
        for pair in pairs:
            a, b = read_image(pair.a), read_image(pair.b)
            rows = [
                (f"{name} = {value}", [model.fuse(a, b, "minmax")], weight_maps(model, a, b)) for value, model in models
            ]
            paths += figures.save(figures.weight_figure(rows, ("fused",)), out / f"{name}-{file_name(pair)}")
    return paths


def sweep_models(table6: Path, name: str) -> Iterator[tuple[str, Model]]:
    """(value, the model of seed 0) of each value whose training is done and did not diverge. InputError where none
    is."""
    done = 0
    for value in ALPHAS:
        run = f"{FULL if value == '1' else f'{name}-{value}'}-seed0"
        if "metrics" in (read_result(table6 / "results" / f"{run}.json") or {}):
            done += 1
            yield value, load(table6 / "runs" / run)
    if not done:
        raise InputError(f"{table6}: expected the folder of an experiments table6 with trainings that are done")


def checkpoint(path: str | Path) -> tuple[Model, Callable[[Pair], np.ndarray]]:
    """(the model, its picture of a pair: full range, as in the paper's figures)."""
    model = load(path)
    return model, lambda pair: model.fuse(read_image(pair.a), read_image(pair.b), "minmax")


def fused_elsewhere(folder: Path, pairs: Sequence[Pair]) -> Callable[[Pair], np.ndarray]:
    """The picture of a pair in a folder of fused images."""
    found = find_fused(folder, pairs)
    return lambda pair: read_image(found[pair.name])


def file_name(pair: Pair) -> str:
    """Of a pair's figures."""
    return pair.name.replace("/", "_")
