"""The pairs of a run: a folder or manifest of the user's or the built-in scenes, split into training and validation."""

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path

from refusion_jax.data.batches import LumaPairs, luma_pairs_from_files
from refusion_jax.data.pairs import check_sizes, hold_out, split_validation
from refusion_jax.data.reading import PairReader
from refusion_jax.data.search import discover
from refusion_jax.data.slices import has_volumes, sliced
from refusion_jax.errors import InputError
from refusion_jax.imaging.color import to_luma
from refusion_jax.imaging.files import MAX_PIXELS
from refusion_jax.imaging.levels import parse_rules
from refusion_jax.runtime.disk import scratch_folder
from refusion_jax.runtime.memory import available_bytes


@dataclass(frozen=True)
class TrainingData:
    """Training and validation pairs, a line that describes them, a hash of the two name lists, what to know, and the
    folder of the slices of volumes, which is gone with this."""

    train: LumaPairs
    validation: LumaPairs
    description: str
    fingerprint: str
    remarks: tuple[str, ...] = ()
    slices: tempfile.TemporaryDirectory | None = None


def fingerprint(train: list[str], validation: list[str]) -> str:
    """SHA-256 of the names, training and validation apart."""
    return hashlib.sha256("\n".join([*train, "--", *validation]).encode("utf-8", "surrogateescape")).hexdigest()


def from_folder(
    folder: Path,
    task: str,
    *,
    crop: int,
    validation_every: int = 10,
    exclude: tuple[str, ...] = (),
    cache_mib: int = 4096,
    max_pixels: int = MAX_PIXELS,
    levels: str = "auto",
) -> TrainingData:
    """Pairs of a folder or a manifest: every n-th by plainly sorted name is validation, the rest training.

    Where folders (train, val, test) or the manifest's `split` column tell, they decide instead: `test` is never trained
    on nor looked at, and if any pair is marked for validation, those are the validation (none with validation_every=0).
    Volumes are held out whole, and none where there are fewer than n.
    levels: which values of files of more than 8 bits are black and white (`imaging.levels.parse_rules`); "auto" leaves
    it to the manifest or to each file.

    Raises InputError when there are no pairs, two sizes in a pair, an image below the crop or above max_pixels, an
    unknown excluded name, or fewer than two training pairs (the meta-train and meta-test pools need one each).
    """
    found = discover(folder, task).require()
    pairs, rules = found.pairs, None if levels == "auto" else parse_rules(levels)
    unknown = set(exclude) - {p.name for p in pairs}
    if unknown:
        raise InputError(f"data.exclude names {', '.join(sorted(unknown))}, but {folder} has no such pair")
    tests = sum(p.split == "test" for p in pairs)
    pairs = [p for p in pairs if p.name not in exclude and p.split != "test"]
    if tests and not pairs:
        raise InputError(
            f"{folder}: all {tests} pairs are of a test part, which is not trained on; name its folder itself to use it"
        )
    remarks, pictures = found.remarks, None
    if has_volumes(pairs):
        pictures = tempfile.TemporaryDirectory(prefix="slices-", dir=scratch_folder())
        cut = sliced(pairs, Path(pictures.name), rules, validation_every, max_pixels).require()
        remarks = (*remarks, *cut.remarks)
        if validation_every and not any(p.split == "validation" for p in cut.pairs):
            remarks += (
                f"no volume is held out for validation: of {len(pairs)} pairs data.validation_every ="
                f" {validation_every} takes none; lower it, or mark volumes in a manifest",
            )
            validation_every = 0  # slices of volumes that are trained on would be held out
        pairs, rules = cut.pairs, None
    for pair, (height, width) in zip(pairs, check_sizes(pairs, max_pixels), strict=True):
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
    if tests:
        text += f" ({tests} of its test part left out)"
    room = min(cache_mib * 2**20, available_bytes() // 2)
    reader = PairReader(task, rules, max_pixels).over(pairs)
    return TrainingData(
        luma_pairs_from_files(train, reader, room),
        luma_pairs_from_files(validation, reader, room),
        text,
        fingerprint([p.name for p in train], [p.name for p in validation]),
        (*remarks, *reader.remarks(train)),
        pictures,
    )


def built_in(task: str, seed: int, count: int, size: int, *, crop: int, validation_every: int = 10) -> TrainingData:
    """The built-in scenes number 0 .. count-1 of a seed, made when first needed."""
    from refusion_jax.scenes import make_pair  # SciPy is slow to import and real pairs do not need it

    if size < crop:
        raise InputError(f"data.scene_size must be at least data.crop ({crop}), got {size}")

    def scenes(indices: list[int]) -> LumaPairs:
        def decode(i):
            pair = make_pair(task, seed, indices[i], (size, size))
            return to_luma(pair.a), to_luma(pair.b)

        return LumaPairs([f"{task}_{i:05d}" for i in indices], decode, cache_bytes=2**62)

    train, validation = hold_out(range(count), validation_every)
    if len(train) < 2:
        raise InputError(f"data.scenes must leave at least 2 scenes for training, got {count}")
    text = f"{len(train)} training and {len(validation)} validation scenes, built in (--data DIR trains on real pairs)"
    names = [[f"{task}_{i:05d}_{seed}_{size}" for i in part] for part in (train, validation)]
    return TrainingData(scenes(train), scenes(validation), text, fingerprint(*names))
