"""Built-in scenes: pairs for all four tasks from a seeded generator, so that training needs no download."""

from refusion_jax.scenes.pairs import TASKS, ScenePair, make_pair, make_pairs

__all__ = ["TASKS", "ScenePair", "make_pair", "make_pairs"]
