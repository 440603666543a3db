"""One step of each kind, its gradients, and a fused picture: stored on one machine, compared on another.

    python benchmarks/gpu_parity.py FILE.npz --store    # on the CPU
    python benchmarks/gpu_parity.py FILE.npz            # elsewhere: a table; exit status 1 beyond a tolerance

Parameters of F, R and P are the package's for ivif, the batches are built-in scenes; both travel in the file. The
gradients are read from Adam's first moment after one step, a tenth of the gradient. All in float32, products too.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

TASK = "ivif"
# Largest relative error, |x - stored| over |stored| as norms of all entries. Two float32 computations of one value
# differ by the order of their sums: by 1e-8 to 6e-7 between two releases of JAX on a CPU. Inputs of products rounded to
# 10 bits, as GPUs offer, are off by up to 5e-4 each. `moved` is what one step of Adam changes: entries of the gradient
# that are nearly zero may go the other way (4e-5 between those releases).
TOLERANCES = {"loss": 1e-5, "fused": 1e-5, "gradient": 1e-3, "moved": 1e-2}


def inputs() -> dict[str, np.ndarray]:
    """Two batches of four 64x64 pairs of built-in scenes as uint8, and the sources of a picture."""
    from refusion_jax.imaging.color import to_luma
    from refusion_jax.scenes import make_pair

    scenes = [make_pair(TASK, 0, index, (240, 320)) for index in range(9)]
    lumas = [[np.rint(to_luma(x)).astype(np.uint8) for x in (scene.a, scene.b)] for scene in scenes]
    crops = np.array([[x[80:144, 120:184, None] for x in pair] for pair in lumas[:8]])
    return {"train": crops[:4], "test": crops[4:], "picture": np.array(lumas[8])}


def step_values(given: dict[str, np.ndarray], params, model) -> dict[str, np.ndarray]:
    """What one meta step and one fusion step give, by "KIND: NAME" of the tables below."""
    import jax
    import jax.numpy as jnp
    from jax.flatten_util import ravel_pytree

    from refusion_jax.method.steps import init_state, make_inner_loop, make_optimizers, make_steps
    from refusion_jax.models import build as networks
    from refusion_jax.runtime.compiling import jit

    nets = networks.linen_networks(*networks.build(**vars(model.settings)))
    optimizers = make_optimizers()
    state = init_state(jax.tree.map(jnp.asarray, params), optimizers)
    train, test = ({"a": given[name][:, 0], "b": given[name][:, 1]} for name in ("train", "test"))
    meta_step, fusion_step = make_steps(nets, model.loss, optimizers, make_inner_loop())
    meta_step, fusion_step = jit(meta_step), jit(fusion_step)
    meta_step.begin(state, train, test)  # both are compiled side by side
    fusion_step.begin(state, train)
    values = {}
    for kind, (after, metrics), changed in (
        ("meta step", meta_step(state, train, test), "p"),
        ("fusion step", fusion_step(state, train), "fr"),
    ):
        names = sorted(name for name in metrics if "fusion" in name or "reconstruction" in name)
        values[f"{kind}: loss"] = np.array([metrics[name] for name in names])
        for net in changed:
            moment = getattr(after.optimizers, net)[0].mu
            values[f"{kind}: gradient {net.upper()}"] = np.asarray(ravel_pytree(moment)[0])
            moved = jax.tree.map(jnp.subtract, getattr(after.params, net), getattr(state.params, net))
            values[f"{kind}: moved {net.upper()}"] = np.asarray(ravel_pytree(moved)[0])
    return values


def values(given: dict[str, np.ndarray], params) -> dict[str, np.ndarray]:
    """All values that are compared, from the batches and the parameters."""
    from dataclasses import replace

    from refusion_jax.fusing.model import load

    model = replace(load(TASK), params=params, _functions={})
    fused = model.network_output(*given["picture"])
    return step_values(given, params, model) | {"package's weights: fused": fused}


def tolerance(name: str) -> float:
    """That of a value by its name."""
    return next(limit for kind, limit in TOLERANCES.items() if kind in name)


def error(found: np.ndarray, stored: np.ndarray) -> float:
    """|found - stored| / |stored|, formed in float64."""
    found, stored = found.astype(np.float64), stored.astype(np.float64)
    return float(np.linalg.norm(found - stored) / np.linalg.norm(stored))


def compare(found: dict[str, np.ndarray], stored: dict[str, np.ndarray]) -> list[tuple[str, float, float]]:
    """(name, relative error, tolerance) of every stored value."""
    return [(name, error(found[name], x), tolerance(name)) for name, x in stored.items()]


def store(path: Path) -> None:
    """Computes all here and writes it with what it was computed from."""
    import jax

    from refusion_jax.fusing.model import load
    from refusion_jax.weights.trees import by_name, flatten

    given, params = inputs(), load(TASK).params
    weights = {f"params/{net}/{k}": x for net, tree in by_name(params).items() for k, x in flatten(tree).items()}
    found = {f"values/{name}": x for name, x in values(given, params).items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    origin = {"origin": np.array(f"{jax.default_backend()}, JAX {jax.__version__}")}
    np.savez_compressed(path, **origin, **{f"given/{k}": x for k, x in given.items()}, **weights, **found)


def check(path: Path) -> bool:
    """Computes the same here, prints the table; whether all are within the tolerances."""
    import jax

    from refusion_jax.weights.trees import from_names, unflatten

    with np.load(path) as file:
        everything = dict(file)
    print(f"stored: {everything.pop('origin')}; here: {jax.devices()[0].device_kind}, JAX {jax.__version__}\n")
    parts: dict[str, dict[str, np.ndarray]] = {}
    for key, x in everything.items():
        part, _, name = key.partition("/")
        parts.setdefault(part, {})[name] = x
    trees: dict[str, dict[str, np.ndarray]] = {}
    for key, x in parts["params"].items():
        net, _, name = key.partition("/")
        trees.setdefault(net, {})[name] = x
    params = from_names({net: unflatten(tree) for net, tree in trees.items()})
    start = time.monotonic()
    rows = compare(values(parts["given"], params), parts["values"])
    print("| value | relative error | tolerance | |\n| --- | --- | --- | --- |")
    for name, difference, limit in rows:
        print(f"| {name} | {difference:.1e} | {limit:.0e} | {'' if difference <= limit else 'EXCEEDED'} |")
    print(f"\n{time.monotonic() - start:.0f} s, compiling included")
    return all(difference <= limit for _, difference, limit in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--store", action="store_true")
    arguments = parser.parse_args()
    from refusion_jax.runtime.compiling import enable_cache

    enable_cache()
    if arguments.store:
        store(arguments.file)
    else:
        sys.exit(0 if check(arguments.file) else 1)


if __name__ == "__main__":
    main()
