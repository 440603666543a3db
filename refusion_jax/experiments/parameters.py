"""Table 7: the trainable parameters of F beside those that the paper lists."""

import jax

from refusion_jax.evaluation.paper_tables import parameter_counts
from refusion_jax.evaluation.tables import Grid
from refusion_jax.models.build import NAMES, ModelSettings, build, expected_shapes


def our_counts() -> dict[str, int]:
    """Parameters of F, R and P at the published size. Nothing is computed."""
    shapes = expected_shapes(build(**vars(ModelSettings())))
    return {name: sum(x.size for x in jax.tree.leaves(tree)) for name, tree in zip(NAMES, shapes, strict=True)}


def parameter_grid() -> Grid:
    """A line a method, fewest first: millions of parameters as printed, and ours as counted; ours are marked.

    R and P are trained too, but are not part of what fuses; the paper does not count them.
    """
    rows = [(method, millions, f"{millions:.3f}", "") for method, millions in parameter_counts().items()]
    names = {"F": "F, this repository", "R": "R, while training alone", "P": "P, while training alone"}
    rows += [(names[name], n / 1e6, f"{n / 1e6:.3f}", f"{n:,}") for name, n in our_counts().items()]
    lines = [
        [(method, bool(exact)), (text, False), (exact, False)]
        for method, _, text, exact in sorted(rows, key=lambda r: r[1])
    ]
    return Grid(["Method", "millions", "counted"], lines)
