"""From pairs to training batches: in-memory luma pairs, each epoch's pools, and the Grain pipeline over them."""

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import grain
import numpy as np

from refusion_jax.data.pairs import Pair, darker_first
from refusion_jax.data.reading import PairReader
from refusion_jax.errors import InputError
from refusion_jax.imaging.pixels import check_one_size


class LumaPairs:
    """A random-access sequence of luma pairs, {"a", "b"}: (H,W) uint8 each, decoded on first use and then kept.

    names: one per pair. decode(i) -> (a, b) luma arrays (H,W), 0..255. Arrays are kept while they fit in cache_bytes;
    the rest are decoded anew at each use. Safe to read from several threads.
    """

    def __init__(self, names: Sequence[str], decode: Callable[[int], tuple], cache_bytes: int):
        self.names = list(names)
        self._decode = decode
        self._room = cache_bytes
        self._kept: dict[int, dict[str, np.ndarray]] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index) -> dict[str, np.ndarray]:
        index = int(index)
        kept = self._kept.get(index)
        if kept is None:
            a, b = (np.clip(np.rint(x), 0, 255).astype(np.uint8) for x in self._decode(index))
            kept = {"a": a, "b": b}
            with self._lock:
                size = a.nbytes + b.nbytes
                if index not in self._kept and size <= self._room:
                    self._room -= size
                    self._kept[index] = kept
        return kept


def luma_pairs_from_files(pairs: Sequence[Pair], reader: PairReader, cache_bytes: int) -> LumaPairs:
    """Luma pairs of image files. For meie the darker image becomes source a, whatever its name."""

    def decode(i):
        a, b = reader.lumas(pairs[i])
        try:
            check_one_size((a, b))
        except InputError as error:
            raise InputError(f"pair {pairs[i].name}: {error}") from None
        return darker_first(a, b) if reader.task == "meie" else (a, b)

    return LumaPairs([p.name for p in pairs], decode, cache_bytes)


class Subset:
    """Some pairs of a LumaPairs, by index, as a source of its own."""

    def __init__(self, pairs: LumaPairs, indices: Iterable[int]):
        self._pairs, self._indices = pairs, [int(i) for i in indices]

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index) -> dict[str, np.ndarray]:
        return self._pairs[self._indices[int(index)]]


def subseed(seed: int, *path: int) -> int:
    """One 31-bit seed per purpose: a hash of the run's seed and a path of small numbers."""
    return int(np.random.SeedSequence([seed, *path]).generate_state(1)[0] >> 1)


def meta_pools(count: int, seed: int, epoch: int) -> tuple[np.ndarray, np.ndarray]:
    """Algorithm 1, line 3: the pair indices of this epoch's meta-train and meta-test pool, disjoint halves."""
    order = np.random.default_rng([seed, 1, epoch]).permutation(count)
    return np.sort(order[: count // 2]), np.sort(order[count // 2 :])


def crop_and_flip(pair: dict[str, np.ndarray], rng: np.random.Generator, crop: int, flips: bool):
    """The same random square and flips out of both sources: {"a","b"} (H,W) -> (crop,crop,1), uint8."""
    height, width = pair["a"].shape
    top, left = int(rng.integers(height - crop + 1)), int(rng.integers(width - crop + 1))
    turn = rng.integers(2, size=2) if flips else (0, 0)
    steps = tuple(-1 if t else 1 for t in turn)
    return {
        key: np.ascontiguousarray(x[top : top + crop, left : left + crop][:: steps[0], :: steps[1]])[..., None]
        for key, x in pair.items()
    }


def batches(
    source: LumaPairs | Subset,
    seed: int,
    *,
    crop: int,
    batch: int,
    flips: bool = True,
    part: tuple[int, int] = (0, 1),
    first: int = 0,
) -> grain.DatasetIterator:
    """An endless stream of batches {"a", "b"}: (batch, crop, crop, 1) uint8, that begins with batch number `first`.

    Shuffled anew at each pass over the source. Every crop depends on the seed and the position in the stream alone.

    part: (i, n) gives the i-th of n equal parts of every batch, (batch/n, crop, crop, 1), and reads no more than that;
    the n parts in order are the batches of part (0, 1). n must divide the batch.
    """
    index, parts = part
    if batch % parts:
        raise InputError(f"a batch of {batch} pairs cannot be divided into {parts} equal parts")
    stream = grain.MapDataset.source(source).seed(seed).shuffle().repeat()
    stream = stream.random_map(lambda pair, rng: crop_and_flip(pair, rng, crop, flips))
    read = grain.ReadOptions(num_threads=2, prefetch_buffer_size=8)
    # Without a buffer of its own, each batch would wait for its decoding.
    stream = stream.batch(batch // parts, drop_remainder=True)
    if parts > 1 or first:
        stream = stream[parts * first + index :: parts]
    return iter(stream.to_iter_dataset(read))


def epoch_streams(pairs: LumaPairs, phase: str, seed: int, epoch: int, **how: Any) -> dict[str, grain.DatasetIterator]:
    """The streams of one phase of one epoch: "meta" -> meta_train, meta_test (disjoint pools); "fusion" -> fusion.

    epoch: from 0; -1 is the warm-up before the first.
    """
    if phase == "fusion":
        sources = {"fusion": pairs}
    else:
        train, test = meta_pools(len(pairs), seed, epoch)
        sources = {"meta_train": Subset(pairs, train), "meta_test": Subset(pairs, test)}
    kinds = {"fusion": 2, "meta_train": 3, "meta_test": 4}
    path = {name: (kinds[name], epoch) if epoch >= 0 else (5,) for name in sources}
    return {name: batches(s, subseed(seed, *path[name]), **how) for name, s in sources.items()}
