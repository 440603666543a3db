"""The jobs of the command fuse: read, bring to one size, align, fuse, write, one after the other."""

import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from refusion_jax.cli.common import printable
from refusion_jax.cli.jobs import Job
from refusion_jax.errors import InputError
from refusion_jax.imaging.color import to_luma
from refusion_jax.imaging.files import Picture, read_picture, supports_16_bits, write_image
from refusion_jax.imaging.metadata import Metadata, fitted
from refusion_jax.imaging.pixels import to_depth
from refusion_jax.imaging.registration import looks_misregistered
from refusion_jax.imaging.resizing import to_one_size

LARGE = 4_000_000  # pixels from which a single picture gets a progress bar of its own


class Notes:
    """Remarks and warnings on standard error; a remark on files of one kind is made once."""

    def __init__(self, say: Callable[[str], None]):
        self._say = say
        self._made: set[str] = set()

    def remark(self, path: Path, note: str) -> None:
        if note not in self._made:
            self._made.add(note)
            self._say(f"note: {path}: {note} (said once)")

    def warn(self, text: str) -> None:
        self._say(f"warning: {text}")


@dataclass
class Fusion:
    """What all jobs share: the model, the command line's options, a saved transform and the report, if any."""

    model: Any
    options: Any
    transform: Any = None
    report: Any = None

    def __call__(self, job: Job, notes: Notes) -> tuple[Path, ...]:
        """One job from reading to writing; the files written. Raises InputError for what cannot be fused."""
        pictures = [read_picture(path) for path in job.sources]
        for path, picture in zip(job.sources, pictures, strict=True):
            for note in picture.notes:
                notes.remark(path, note)
        images, names = self._frames(job, pictures)
        images, facts = self._aligned(job, images, names, notes)
        fused = self._fused(job, images, any(picture.pixels.dtype == np.uint16 for picture in pictures))
        metadata = {"a": pictures[0].metadata, "b": pictures[-1].metadata, "none": Metadata()}
        self._write(job, fused, metadata[self.options.metadata_from], notes)
        maps = self._maps(job, images)
        if self.report is not None:
            facts = {"sources": ", ".join(names), "result": str(job.fused)} | facts
            self.report.add(job.name, images[0], images[-1], fused, *maps, facts)
        return job.results

    def _frames(self, job: Job, pictures: Sequence[Picture]) -> tuple[list[np.ndarray], list[str]]:
        """The pictures at one size and their files' names; of a stack each once, of a bracket by brightness."""
        images = to_one_size([picture.pixels for picture in pictures], self.options.resize)
        kept = list(range(len(images)))
        if job.stack:
            from refusion_jax.fusing.stacks import distinct

            kept = distinct(images)
            if self.model.task == "meie":  # neighbours in brightness have most in common
                kept.sort(key=lambda i: float(to_luma(images[i]).mean(dtype=np.float64)))
        return [images[i] for i in kept], [job.sources[i].name for i in kept]

    def _aligned(
        self, job: Job, images: list[np.ndarray], names: list[str], notes: Notes
    ) -> tuple[list[np.ndarray], dict[str, str]]:
        """The pictures on each other where that is asked for, and what was found, for the report."""
        if self.transform is None and not self.options.align:
            warnings = [] if self.options.no_check else shift_warnings(images, names)
            for warning in warnings:
                notes.warn(f"{job.name}: {warning}; --align affine brings them together, --no-check silences this")
            return images, {"looks shifted": "; ".join(warnings)} if warnings else {}
        from refusion_jax.imaging.alignment import Transform, write_transform
        from refusion_jax.imaging.common_frame import find_transforms, onto_one_frame

        images = in_one_depth(images)
        reference = len(images) // 2 if job.stack else 0
        if self.transform is None:
            transforms = find_transforms(images, self.options.align, reference)
        else:
            size = self.transform.size_a
            transforms = [Transform(np.eye(3), self.transform.motion, size, size), self.transform]
        aligned = onto_one_frame(images, transforms, self.options.align_frame or "overlap", reference)
        if self.options.save_transform:
            write_transform(Path(self.options.save_transform), transforms[1])
        return aligned, {"aligned": "; ".join(f"{names[i]} {t}" for i, t in enumerate(transforms) if i != reference)}

    def _fused(self, job: Job, images: list[np.ndarray], has_16_bits: bool) -> np.ndarray:
        """The fused picture, with the bits of --depth, else 16 when a source has 16 and the file can hold them."""
        default = 16 if has_16_bits and supports_16_bits(job.fused) else 8
        bits = self.options.depth or default
        images = in_one_depth(images, bits)
        options = {"range": self.options.range, "gray": self.options.gray}
        if job.stack:
            from refusion_jax.fusing.stacks import fuse_stack

            return to_depth(fuse_stack(self.model, images, **options), bits)
        with tiles_bar(images[0].shape[:2]) as progress:
            return to_depth(self.model.fuse(*images, **options, progress=progress), bits)

    def _write(self, job: Job, fused: np.ndarray, metadata: Metadata, notes: Notes) -> None:
        for note in fitted(metadata, job.fused, fused)[1]:
            notes.remark(job.fused, note)
        write_image(job.fused, fused, quality=self.options.quality, metadata=metadata)

    def _maps(self, job: Job, images: Sequence[np.ndarray]) -> tuple[np.ndarray | None, np.ndarray | None]:
        """P's w and v of a pair, (H,W): the weights of source a, where they are asked for or the report shows them."""
        if job.stack or not (job.maps or self.report is not None and self.model.params.p is not None):
            return None, None
        from refusion_jax.imaging.colormaps import apply_colormap

        w, v = (weights[..., 0] for weights in self.model.maps(*images))
        for path, weights in zip(job.maps, (w, v), strict=False):
            write_image(path, apply_colormap(weights, "diverging"))
        return w, v


def fuse_all(fuse: Callable[[Job, Notes], tuple[Path, ...]], jobs: Sequence[Job], alone: bool) -> int:
    """Every job in turn with a progress bar; how many failed. alone: there is one job, whose error is raised."""
    if alone:
        written = fuse(jobs[0], Notes(lambda line: print(printable(line), file=sys.stderr)))
        print(printable("wrote " + ", ".join(map(str, written))))
        return 0
    from tqdm import tqdm

    notes = Notes(lambda line: tqdm.write(printable(line), file=sys.stderr))
    failed = done = 0
    try:
        with _interrupts() as interrupted:
            for job in tqdm(jobs, unit="pair", disable=None):  # None: no bar in a log file
                if interrupted:
                    raise KeyboardInterrupt
                try:
                    written = fuse(job, notes)
                except (InputError, OSError) as error:
                    tqdm.write(printable(f"error: pair {job.name}: {error}"), file=sys.stderr)
                    failed += 1
                else:
                    tqdm.write(printable("wrote " + ", ".join(map(str, written))))
                    done += 1
    except KeyboardInterrupt:
        print(f"\n{done} of {len(jobs)} fused, all of them whole; --skip-existing goes on from here", file=sys.stderr)
        raise
    return failed


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """A list that is no longer empty once Ctrl-C was pressed, for when its exception came where none is passed on,
    such as in a callback of a library."""
    seen: list[int] = []

    def interrupt(number, frame):
        seen.append(number)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, before)


def shift_warnings(images: Sequence[np.ndarray], names: Sequence[str]) -> list[str]:
    """A line for each picture that looks shifted against the one before it."""
    lumas = [to_luma(image) for image in images]
    warnings = []
    for i in range(1, len(lumas)):
        warning = looks_misregistered(lumas[i - 1], lumas[i])
        if warning:
            warnings.append(f"{warning} ({names[i]} against {names[i - 1]})" if len(names) > 2 else warning)
    return warnings


def in_one_depth(images: Sequence[np.ndarray], least: int = 8) -> list[np.ndarray]:
    """The pictures, uint8 or uint16, at the largest depth among them, or `least` bits if that is more."""
    deepest = max(least, *(image.dtype.itemsize * 8 for image in images))
    return [to_depth(image, deepest) for image in images]


@contextmanager
def tiles_bar(size: tuple[int, int]) -> Iterator[Callable[[int, int], None]]:
    """A progress bar over the tiles of a picture that takes long, as the function to call; removed at the end."""
    from tqdm import tqdm

    with tqdm(disable=size[0] * size[1] < LARGE, desc=f"{size[1]}x{size[0]}", unit="tile", leave=False, delay=1) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield progress
