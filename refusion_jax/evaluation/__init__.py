"""Scoring methods on pairs: what evaluate.py does, and the validation scores of a training run.

- `evaluate` scores methods (folders of fused images, or checkpoints that fuse) on a list of pairs, file by
  file;
- `validation_scores` scores a fusing function on arrays in memory;
- `baselines` are what a method has to beat;
- `methods` says what a method is and finds its fused images, `tables` writes the tables.
"""

from refusion_jax.evaluation.baselines import baseline_methods
from refusion_jax.evaluation.methods import Method, checkpoint_method, find_fused, folder_method
from refusion_jax.evaluation.scoring import (
    Data,
    Evaluation,
    Result,
    describe_data,
    evaluate,
    mean_ranks,
    validation_scores,
)

__all__ = [
    "Data",
    "Evaluation",
    "Method",
    "Result",
    "baseline_methods",
    "checkpoint_method",
    "describe_data",
    "evaluate",
    "find_fused",
    "folder_method",
    "mean_ranks",
    "validation_scores",
]
