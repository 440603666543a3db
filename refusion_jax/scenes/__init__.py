"""Built-in scenes: pairs for all four tasks from a seeded generator, with their ground truth; no download needed."""

from refusion_jax.scenes.pairs import ScenePair, make_pair

__all__ = ["ScenePair", "make_pair"]
