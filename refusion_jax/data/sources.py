"""The pairs of a run: a folder of the user's or the built-in scenes, split into training and validation."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from refusion_jax.data.pairs import check_sizes, find_pairs, split_validation
from refusion_jax.data.pipeline import LumaPairs, luma_pairs_from_files
from refusion_jax.errors import InputError
from refusion_jax.imaging.color import to_luma
from refusion_jax.imaging.files import image_size


@dataclass(frozen=True)
class TrainingData:
    """Training and validation pairs, a line that describes them, and a hash of the two name lists."""

    train: LumaPairs
    validation: LumaPairs
    description: str
    fingerprint: str


def fingerprint(train: list[str], validation: list[str]) -> str:
    """SHA-256 of the names, training and validation apart."""
    return hashlib.sha256("\n".join([*train, "--", *validation]).encode("utf-8", "surrogateescape")).hexdigest()


def from_folder(
    folder: Path, task: str, *, crop: int, validation_every: int = 10, exclude: tuple[str, ...] = (),
    cache_mib: int = 4096,
) -> TrainingData:  # fmt: skip
    """Every n-th pair by sorted name is validation, the rest training.

    Raises InputError when there are no pairs, two sizes in a pair, an image below the crop, an unknown excluded name,
    or fewer than two training pairs (the meta-train and meta-test pools need one each).
    """
    pairs = find_pairs(folder, task)
    unknown = set(exclude) - {p.name for p in pairs}
    if unknown:
        raise InputError(f"data.exclude names {', '.join(sorted(unknown))}, but {folder} has no such pair")
    pairs = [p for p in pairs if p.name not in exclude]
    check_sizes(pairs)
    for pair in pairs:
        height, width = image_size(pair.a)
        if min(height, width) < crop:
            raise InputError(
                f"pair {pair.name} is {width}x{height} pixels, smaller than the {crop}x{crop} training crop; "
                f"leave it out (--set 'data.exclude=[\"{pair.name}\"]') or lower data.crop"
            )
    train, validation = split_validation(pairs, validation_every)
    if len(train) < 2:
        raise InputError(
            f"{folder}: training needs at least 2 pairs besides the held-out ones, found {len(train)}; add pairs"
        )
    text = f"{len(train)} training and {len(validation)} validation pairs from {folder}"
    room = cache_mib * 2**20
    return TrainingData(
        luma_pairs_from_files(train, task, room),
        luma_pairs_from_files(validation, task, room),
        text,
        fingerprint([p.name for p in train], [p.name for p in validation]),
    )


def built_in(task: str, seed: int, count: int, size: int, *, crop: int, validation_every: int = 10) -> TrainingData:
    """The built-in scenes number 0 .. count-1 of a seed, made when first needed."""
    from refusion_jax.data.scenes import make_pair  # SciPy is slow to import and real pairs do not need it

    if size < crop:
        raise InputError(f"data.scene_size must be at least data.crop ({crop}), got {size}")

    def scenes(indices: list[int]) -> LumaPairs:
        def decode(i):
            pair = make_pair(task, seed, indices[i], (size, size))
            return to_luma(pair.a), to_luma(pair.b)

        return LumaPairs([f"{task}_{i:05d}" for i in indices], decode, cache_bytes=2**62)

    train, validation = split_validation(list(range(count)), validation_every)
    if len(train) < 2:
        raise InputError(f"data.scenes must leave at least 2 scenes for training, got {count}")
    text = f"{len(train)} training and {len(validation)} validation scenes, built in (--data DIR trains on real pairs)"
    names = [[f"{task}_{i:05d}_{seed}_{size}" for i in part] for part in (train, validation)]
    return TrainingData(scenes(train), scenes(validation), text, fingerprint(*names))
