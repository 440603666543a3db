"""The held-out pairs while training: their scores, and the checkpoint that scored best."""

from pathlib import Path

import numpy as np

from refusion_jax.config import Config
from refusion_jax.data.batches import LumaPairs
from refusion_jax.evaluation import validation_scores
from refusion_jax.imaging.ranges import to_range
from refusion_jax.metrics import PROTOCOLS, TASK_METRICS
from refusion_jax.training import checkpoints, devices
from refusion_jax.training.trainer import Trainer
from refusion_jax.weights.orbax_folder import read_info

BEST = "best"


def is_due(config: Config, pairs: LumaPairs, epoch: int) -> bool:
    """Whether the pairs held out are scored at the end of this epoch (from 1)."""
    every = config.validation.every
    return bool(every and len(pairs)) and (epoch % every == 0 or epoch == config.train.epochs)


def validate(trainer: Trainer) -> dict[str, float]:
    """Mean scores of the held-out pairs by the paper's protocol, fused luma stretched to the full range."""
    settings, held_out = trainer.config.validation, trainer.data.validation
    pairs = (held_out[i] for i in range(min(settings.pairs, len(held_out))))
    params_f = devices.single(trainer.state.params.f)

    def fuse_luma(a, b):
        sources = [x.astype(np.float32) / 255 for x in (a, b)]
        return to_range(trainer.functions["fuse"](params_f, *sources), sources, "minmax")

    return validation_scores(
        fuse_luma, ((p["a"], p["b"]) for p in pairs), settings.metrics or TASK_METRICS[trainer.config.task]
    )


def keep_best(trainer: Trainer, scores: dict[str, float]) -> bool:
    """Keeps this state in RUN/best when its score by validation.best beats the one there. Returns whether."""
    manager = checkpoints.open_manager(trainer.run, 1, BEST)
    last = manager.latest_step()
    better = last is None or _beats(scores, trainer.run / BEST / str(last), trainer.config.validation.best)
    if better:
        checkpoints.save(manager, trainer.state, trainer.info() | {"scores": scores})
    manager.close()
    return better


def _beats(scores: dict[str, float], best: Path, metric: str) -> bool:
    before = read_info(best)["scores"].get(metric)
    sign = 1 if PROTOCOLS["paper"][metric].higher_is_better else -1
    return before is None or sign * scores[metric] > sign * before
