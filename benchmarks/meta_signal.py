"""Signal to noise of the meta-gradient (Eq. 10): is there anything for P to learn, and what does it ask for?

Run from the checkout: python benchmarks/meta_signal.py --task meie --data DIR [--states 50 600 3000] [--batches 40]
    [--ckpt CKPT] [--preset tuned] [--set section.key=value] [--same-pairs] [--out FILE.jsonl]

F and R are trained from random numbers with w = v = 1/2, and looked at after so many fusion steps (--states); P is
fresh. With --ckpt its parameters, P's included, are one more state. At each state the derivative of L_r
(meta-test, at F' and R') in the maps w and v is computed on that many pairs of batches, apart for L_r's two terms.
One plain inner step is looked at. Printed is the mean over the batches divided by its standard error (noise alone is
within 2 in 95 % of cases):

- "brighter", "source a" (w) and "sharper", "source a" (v): whether the maps are asked to favour that source.
- "P": the length of the mean gradient in P's parameters over that which noise alone would leave (1 = only noise).
"""

import argparse
import json
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

from refusion_jax import config as configuration  # noqa: E402
from refusion_jax.cli.train import load_data  # noqa: E402
from refusion_jax.method import meta, steps  # noqa: E402
from refusion_jax.method.health import reconstruction_health  # noqa: E402
from refusion_jax.method.losses import sobel  # noqa: E402
from refusion_jax.method.similarity import slopes_by_weight  # noqa: E402
from refusion_jax.models import build as networks  # noqa: E402
from refusion_jax.models.build import Params  # noqa: E402
from refusion_jax.runtime.compiling import enable_cache, jit  # noqa: E402
from refusion_jax.training.trainer import open_streams  # noqa: E402
from refusion_jax.weights.pretrained import find_checkpoint  # noqa: E402
from refusion_jax.weights.reading import read_weights  # noqa: E402

TERMS = ("reconstruction_intensity", "reconstruction_gradient")


def make_probe(nets, config):
    """(params, train, test) -> what one pair of batches says, by name: scalars, and vectors in P's parameters.

    As in method/similarity.py: with one plain inner step the derivative in the maps is linear in u = dL_r/dF'.
    """
    loss, inner = config.loss, steps.make_inner_loop(config.train, config.meta)
    etas = inner.etas(0)
    weights = {"reconstruction_intensity": 1.0, "reconstruction_gradient": loss.alpha2}

    def outer_slopes(params, train, test):
        """u of each term of L_r, and what the inner step saw."""
        updated, report = meta.inner_update(params, nets, train, loss, *map(inner.optimizer, etas))

        def terms_of(f):
            terms = meta.reconstruction_objective(updated.r, nets, nets.fuse(f, *test), test, loss)[1][1]
            return jnp.stack([weights[t] * terms[t] for t in TERMS])

        _, back = jax.vjp(terms_of, updated.f)
        return jax.lax.map(lambda row: back(row)[0], jnp.eye(len(TERMS))), report

    def by_map(f, train, w, v, u):
        """What descending would do to w_a - w_b and v_a - v_b: (B,H,W) each, per pixel and without eta_F."""

        def fusion_gradient(w, v):
            return jax.grad(meta.fusion_objective, has_aux=True)(f, nets, train, w, v, loss)[0]

        pixels = w[..., 0].size
        return [pixels * (slope[..., 0] - slope[..., 1]) for slope in slopes_by_weight(u, fusion_gradient, w, v)]

    def in_p(p, train, asked):
        """The same for P's parameters, for w and for v apart."""
        _, back = jax.vjp(lambda p: [x[..., 0] for x in meta.propose_weights(p, nets, train, loss)], p)
        none = jnp.zeros_like(asked[0])
        pulled = back([asked[0], none])[0], back([none, asked[1]])[0]
        return [jnp.concatenate([x.ravel() for x in jax.tree.leaves(one)]) for one in pulled]

    outer_slopes, by_map, in_p = jit(outer_slopes), jit(by_map), jit(in_p)

    def probe(params: Params, train, test):
        train, test = steps.as_luma(train), steps.as_luma(test)
        slopes, report = outer_slopes(params, train, test)
        strength = [np.asarray(sobel(x, "l1", 1 / 8))[..., 0] for x in train]
        differ = strength[0] - strength[1]
        sides = {
            "brighter": np.sign(train[0] - train[1])[..., 0],
            "sharper": np.sign(differ) * (np.abs(differ) > 0.01),
            "source a": np.ones_like(differ),
        }
        found, vectors = reconstruction_health(report.rebuilt, *train), {}
        for i, term in enumerate(TERMS):
            asked = by_map(params.f, train, report.w, report.v, jax.tree.map(lambda x, i=i: x[i], slopes))
            own = [x[..., 0] * x[..., 1] for x in (report.w, report.v)]  # along the logit of source a
            for name, vector in zip("wv", in_p(params.p, train, asked), strict=True):
                vectors[f"{name} {term}"] = vector
            for name, x, y in zip("wv", asked, own, strict=True):
                for side in ("brighter" if name == "w" else "sharper", "source a"):
                    found[f"{name} {term} {side}"] = np.mean(x * y * sides[side])
        return found, vectors

    return probe


def t_value(values):
    """Mean over its standard error."""
    values = np.asarray(values, np.float64)
    return float(values.mean() / (values.std(ddof=1) / np.sqrt(len(values))))


def vector_ratio(vectors):
    """Length of the mean over that expected of noise alone."""
    x = np.asarray(vectors, np.float64)
    noise = np.sqrt(x.var(axis=0, ddof=1).sum() / len(x))
    return float(np.linalg.norm(x.mean(axis=0)) / noise)


def measure(probe, params, config, data, batches, same_pairs):
    """One row of the table."""
    train, test = open_streams(config, data, 1, "meta", 0)
    scalars, vectors = {}, {}
    for _ in range(batches):
        one, other = next(train), next(test)
        found, long = jax.device_get(probe(params, one, one if same_pairs else other))
        for key, value in found.items():
            scalars.setdefault(key, []).append(value)
        for key, value in long.items():
            vectors.setdefault(key, []).append(value)
    row = {key: float(np.mean(x)) if key.startswith("rebuilt") else t_value(x) for key, x in scalars.items()}
    for name in "wv":
        for key in [k for k in scalars if k.startswith(f"{name} {TERMS[0]}")]:
            both = np.add(scalars[key], scalars[key.replace(TERMS[0], TERMS[1])])
            row[key.replace(f"{TERMS[0]} ", "")] = t_value(both)
        row[f"{name} P"] = vector_ratio(np.add(*(vectors[f"{name} {t}"] for t in TERMS)))
        for t in TERMS:
            row[f"{name} {t} P"] = vector_ratio(vectors[f"{name} {t}"])
    return row


def line(task, state, row):
    """A row of the Markdown table: what is asked, by L_r's intensity term / gradient term / both."""
    cells = [f"{row['rebuilt_error_a']:.2f}, {row['rebuilt_error_b']:.2f}"]
    for name, side in (
        ("w", "brighter"),
        ("w", "source a"),
        ("w", "P"),
        ("v", "sharper"),
        ("v", "source a"),
        ("v", "P"),
    ):
        keys = (f"{name} {TERMS[0]} {side}", f"{name} {TERMS[1]} {side}", f"{name} {side}")
        cells.append(" / ".join(f"{row[k]:.1f}" for k in keys))
    return f"| {task} | {state} | " + " | ".join(cells) + " |"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--preset", default="tuned")
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--states", type=int, nargs="*", default=[50, 600, 3000])
    parser.add_argument("--ckpt")
    parser.add_argument("--batches", type=int, default=40)
    parser.add_argument("--same-pairs", action="store_true", help="meta-test on the pairs of meta-train (a control)")
    parser.add_argument("--out", type=Path, help="also as lines of JSON")
    given = parser.parse_args()
    enable_cache()
    config = configuration.resolve(given.task, given.preset, given.set, **{"data.dir": given.data})
    data = load_data(config)
    modules = networks.build(**asdict(config.model))
    nets = networks.linen_networks(*modules)
    channels = networks.gradient_channels(config.loss.sobel_form, config.loss.proposal_form)
    optimizers = steps.make_optimizers(config.train, config.meta)
    fresh = networks.init_params(modules, jax.random.key(config.seed), channels)
    _, fusion_step = steps.make_steps(nets, config.loss, optimizers, warmup=2**31 - 1)
    fusion_step, probe = jit(fusion_step), make_probe(nets, config)
    measured = partial(measure, probe, config=config, data=data, batches=given.batches, same_pairs=given.same_pairs)
    print("| task | state | error of R (a, b) | w: brighter | w: source a | w: P | v: sharper | v: source a | v: P |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")

    def show(state, params):
        row = measured(params)
        print(line(config.task, state, row), flush=True)
        if given.out:
            with given.out.open("a") as file:
                head = {"task": config.task, "state": state, "set": given.set, "same_pairs": given.same_pairs}
                file.write(json.dumps({**head, "batches": given.batches, **row}) + "\n")

    state = steps.init_state(fresh, optimizers)
    (stream,) = open_streams(config, data, 0, "fusion", 0)
    for k in range(max(given.states, default=-1) + 1):
        if k in given.states:
            show(f"{k} fusion steps, w = v = 1/2", state.params)
        if k < max(given.states):
            state, _ = fusion_step(state, next(stream))
    if given.ckpt:
        params, _ = read_weights(find_checkpoint(given.ckpt))
        show(f"trained: {given.ckpt}", params)


if __name__ == "__main__":
    main()
