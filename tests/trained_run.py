"""What a finished training left in its run directory, for comparing two of them."""

import jax
import numpy as np
import orbax.checkpoint as ocp

from refusion_jax.weights import orbax_folder


def everything(run, step):
    """All parameters and optimiser states of the newest checkpoint, which is that of `step`, as bytes by name."""
    folder = orbax_folder.newest(run)
    assert orbax_folder.read_info(folder)["step"] == step
    handler = ocp.PyTreeCheckpointHandler()
    trees = [ocp.Checkpointer(handler).restore((folder / part).absolute()) for part in ("params", "optimizers")]
    found = {jax.tree_util.keystr(k): np.asarray(x).tobytes() for k, x in jax.tree_util.tree_leaves_with_path(trees)}
    # Each parameter, and for each of them Adam's two moments.
    parameters = sum("[0]" == k[:3] for k in found)
    assert parameters > 10 and sum("mu" in k or "nu" in k for k in found) == 2 * parameters
    return found
