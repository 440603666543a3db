"""The jobs of the command fuse: read, bring to one size, align, fuse, write, one after the other."""

import dataclasses
import math
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from refusion_jax.cli.common import level_rules, printable
from refusion_jax.cli.jobs import Job
from refusion_jax.data.reading import Rules
from refusion_jax.errors import InputError
from refusion_jax.fusing.frame_store import FrameStore, StoredFrame
from refusion_jax.fusing.tile_store import ADVICE
from refusion_jax.imaging.color import finished_picture, to_luma, unit_luma
from refusion_jax.imaging.files import Picture, levels_of_file, read_pictures, supports_16_bits, write_image
from refusion_jax.imaging.levels import AUTO, Rule, common
from refusion_jax.imaging.metadata import Metadata, fitted
from refusion_jax.imaging.pixels import to_depth
from refusion_jax.imaging.ranges import SAMPLED, Span, Spans, span_of
from refusion_jax.imaging.registration import looks_misregistered, scenes_apart, thumbnail
from refusion_jax.imaging.resizing import resize, to_one_size
from refusion_jax.tasks import STACK_TASKS

RUN = "run"  # of --range: as "sources", with one step for all pictures of a run
PLACE_DROPPED = "georeference dropped: the result has not this picture's size and frame"
NO_DATA_DROPPED = "no-data value dropped: the result has the georeference of another source; see --metadata-from"
EIGHT_BITS_NOTE = "8 bits, whose black is 0 and whose white 255: the levels given are for files of more"
LARGE = 4_000_000  # pixels from which a single picture gets a progress bar of its own


class Notes:
    """Remarks and warnings on standard error; a remark on files of one kind is made once."""

    def __init__(self, say: Callable[[str], None]):
        self._say = say
        self._made: set[str] = set()

    def remark(self, path: Path, note: str, kind: str = "") -> None:
        """kind: of remarks whose numbers differ from file to file."""
        if (kind or note) not in self._made:
            self._made.add(kind or note)
            self._say(f"note: {path}: {note} (said once)")

    def warn(self, text: str) -> None:
        self._say(f"warning: {text}")


@dataclass
class Fusion:
    """What all jobs share: the model, the command line's options, a saved transform, the report, and the levels of the
    sources, where there are any."""

    model: Any
    options: Any
    transform: Any = None
    report: Any = None
    rules: Rules | None = None
    run: "Run | None" = None
    """What --range run found, once all pictures were looked at."""

    def __call__(self, job: Job, notes: Notes) -> tuple[Path, ...]:
        """One job from reading to writing; the files written. Raises InputError for what cannot be fused."""
        with self._store() as store:
            return self._run(job, notes, store)

    def _store(self) -> FrameStore:
        """Where the frames of a stack are kept: a quarter of the memory that fusing may take, then temporary files."""
        from refusion_jax.fusing.model import default_max_memory

        return FrameStore((self.options.max_memory or default_max_memory()) // 4)

    def _run(self, job: Job, notes: Notes, store: FrameStore) -> tuple[Path, ...]:
        if self.run is not None and job.fused in self.run.failed:
            raise self.run.failed[job.fused]
        pictures, images, kept, facts = self._sources(job, notes, store)
        fused = self._fused(job, images, self._bits(job, pictures))
        metadata, fused = self._placed(job, pictures, kept, fused, notes)
        self._write(job, fused, metadata, notes)
        maps = self._maps(job, images)
        self._write_positions(job, images, kept)
        if self.report is not None:
            names = ", ".join(job.sources[i].name for i in kept)
            facts = {"sources": names, "result": str(job.fused)} | facts
            self.report.add(job.name, images[0], images[-1], fused, *maps, facts)
        return job.results

    def look(self, job: Job, run: "Run") -> None:
        """The network's output of one job kept in a file, and the levels of it and of its sources added to the run."""
        with self._store() as store:
            _, images, _, _ = self._sources(job, Notes(lambda line: None), store)
            output, ends = self._output(job, images, held=run.sums)
        # The frames of a stack are of one camera.
        run.spans.add(output, [(min(low for low, _ in ends), max(high for _, high in ends))] if job.stack else ends)
        try:
            np.save(run.file_of(job), output)
        except OSError as error:
            raise InputError(f"cannot keep what the network gave: {error.strerror or error}; {ADVICE}") from None

    def sums(self, job: Job) -> list[Any]:
        """Those of the network's attention over one pair."""
        seen: list[Any] = []
        with self._store() as store:
            _, images, _, _ = self._sources(job, Notes(lambda line: None), store)
            self._output(job, images, seen=seen)
        return seen

    def _sources(
        self, job: Job, notes: Notes, store: FrameStore
    ) -> tuple[list[Picture], list[Any], list[int], dict[str, str]]:
        """(the pictures read, the pixels of those that are fused, their positions, what the report says of them)."""
        rules = self.rules or job.levels or (AUTO, AUTO)
        together = job.stack or self.model.task in STACK_TASKS
        if job.stack:
            pictures = self._frames_read(job, rules[0], store)
        else:
            pictures = read_pictures(job.sources, rules, together, self.options.max_pixels, job.pages)
        given = level_rules(self.options) or job.levels or (AUTO, AUTO)
        for side, (path, picture) in enumerate(zip(job.sources, pictures, strict=True)):
            if given[0 if job.stack else side].kind in ("fixed", "percentile") and picture.pixels.dtype == np.uint8:
                notes.remark(path, EIGHT_BITS_NOTE)
            for note in picture.notes:
                notes.remark(path, note)
            if picture.levels.note:
                notes.remark(path, f"{picture.levels.note}; --levels sets others", f"levels {0 if together else side}")
        images, kept = self._frames(job, pictures)
        names = [job.sources[i].name for i in kept]
        if job.stack and not self.options.no_check and (warning := another_scene(images, names)):
            notes.warn(
                f"{job.name}: {warning}; --group N makes one picture of every N frames, --no-check silences this"
            )
        sizes = [picture.pixels.shape[:2] for picture in pictures]
        images, facts = self._aligned(job, images, names, notes, sizes, store)
        return pictures, in_one_depth(images, self._bits(job, pictures)), kept, facts

    def _frames_read(self, job: Job, rule: Rule, store: FrameStore) -> list[Picture]:
        """The frames of a stack with one black and one white, at one size where --resize asks for it, one after the
        other, kept in the store."""
        pages, limit = job.pages or (None,) * len(job.sources), self.options.max_pixels
        both = list(zip(job.sources, pages, strict=True))
        found = common([levels_of_file(path, rule, limit, page) for path, page in both])
        pictures, keep = [], self.options.resize
        size: Any = None
        for (path, page), levels in list(zip(both, found, strict=True))[:: -1 if keep == "b" else 1]:
            own = Rule("fixed", levels.low, levels.high) if levels.measured else rule
            (picture,) = read_pictures([path], [own], max_pixels=limit, pages=[page])
            size = size or picture.pixels.shape[:2]
            if keep and picture.pixels.shape[:2] != size:
                picture = _of_size(picture, size)
            pictures.append(dataclasses.replace(picture, pixels=store.keep(picture.pixels), levels=levels))
        return pictures[:: -1 if keep == "b" else 1]

    def _bits(self, job: Job, pictures: Sequence[Picture]) -> int:
        """The bits of the result: --depth, else 16 when a source has 16 and the file can hold them."""
        has_16_bits = any(picture.pixels.dtype == np.uint16 for picture in pictures)
        return self.options.depth or (16 if has_16_bits and supports_16_bits(job.fused) else 8)

    def _frames(self, job: Job, pictures: Sequence[Picture]) -> tuple[list[np.ndarray], list[int]]:
        """The pictures at one size and their positions; of a stack each once, of a bracket by brightness."""
        images: list[Any] = [picture.pixels for picture in pictures]
        if job.stack or self.options.resize or not (self.options.align or self.transform):
            images = to_one_size(images, None if job.stack else self.options.resize)
        kept = list(range(len(images)))
        if job.stack:
            from refusion_jax.fusing.stacks import distinct

            kept = distinct(images)
            if self.model.task == "meie":  # neighbours in brightness have most in common
                kept.sort(key=lambda i: float(unit_luma(images[i]).mean(dtype=np.float64)))
        return [images[i] for i in kept], kept

    def _aligned(
        self,
        job: Job,
        images: list[np.ndarray],
        names: list[str],
        notes: Notes,
        sizes: Sequence[tuple[int, int]],
        store: FrameStore,
    ) -> tuple[list[np.ndarray], dict[str, str]]:
        """The pictures on each other where that is asked for, and what was found, for the report. sizes: (H, W) of the
        files' pictures."""
        if self.transform is None and not self.options.align:
            warnings = [] if self.options.no_check else shift_warnings(images, names)
            for warning in warnings:
                notes.warn(f"{job.name}: {warning}; --align affine brings them together, --no-check silences this")
            return images, {"looks shifted": "; ".join(warnings)} if warnings else {}
        from refusion_jax.imaging.alignment import write_transform
        from refusion_jax.imaging.common_frame import find_transforms, onto_one_frame

        images = in_one_depth(images)
        reference = _reference(job, images)
        if self.transform is None:
            transforms = find_transforms(images, self.options.align, reference)
        else:
            self.transform.check_sizes(*sizes)
            transforms = self.transform.of_pictures(*images)
        if not job.stack and math.prod(images[0].shape[:2]) < math.prod(images[1].shape[:2]):
            notes.remark(job.sources[0], "the result has this picture's size; --resize b keeps the other one's detail")
        keep = store.keep if job.stack else np.asarray
        aligned = onto_one_frame(images, transforms, self.options.align_frame or "overlap", reference, keep)
        if self.options.save_transform:
            write_transform(Path(self.options.save_transform), transforms[1].at_sizes(*sizes))
        return aligned, {"aligned": "; ".join(f"{names[i]} {t}" for i, t in enumerate(transforms) if i != reference)}

    def _fused(self, job: Job, images: list[np.ndarray], bits: int) -> np.ndarray:
        """The fused picture with these bits."""
        options = {"range": self.options.range, "gray": self.options.gray}
        if self.run is not None:
            luma = self.run.spans.step()(np.load(self.run.file_of(job)))
            return to_depth(finished_picture(luma, images, self.options.gray), bits)
        if job.stack:
            from refusion_jax.fusing.stacks import fuse_stack

            return to_depth(fuse_stack(self.model, images, **options), bits)
        with tiles_bar(images[0].shape[:2]) as progress:
            return to_depth(self.model.fuse(*images, **options, progress=progress), bits)

    def _output(self, job: Job, images: list[Any], **sums: Any) -> tuple[np.ndarray, list[Span]]:
        """(the network's output before the range step, (H,W); the span of each source's luma)."""
        if job.stack and len(images) > 2:
            from refusion_jax.fusing.stacks import stack_output

            return stack_output(self.model, images)
        images = [np.asarray(image) for image in images]
        with tiles_bar(images[0].shape[:2]) as progress:
            output = self.model.network_output(*images, progress=progress, **sums)
        return output, [span_of(unit_luma(image)) for image in images]

    def _write_positions(self, job: Job, images: Sequence[Any], kept: Sequence[int]) -> None:
        """Which frame of a focus stack each pixel comes from, and where between the frames its focus lies.

        kept: the positions of the images among the stack's files, by which the index counts.
        """
        if not job.positions:
            return
        from refusion_jax.fusing.stacks import focus_positions

        index, depth = focus_positions(images)
        for path in job.positions:
            is_index = path.stem.endswith("_index")
            number = np.asarray(kept, np.uint16)[index - 1] + np.uint16(1) if is_index else np.rint(depth * 65535)
            write_image(path, number.astype(np.uint16))

    def _placed(
        self, job: Job, pictures: Sequence[Picture], kept: Sequence[int], fused: np.ndarray, notes: Notes
    ) -> tuple[Metadata, np.ndarray]:
        """The metadata of the result, with the place on earth of the first source whose size and frame it has, and the
        result with 0 where that source has no data, and nowhere else. kept: as `_sources` gives it."""
        if self.options.metadata_from == "none":
            return Metadata(), fused
        order = pictures if self.options.metadata_from == "a" else pictures[::-1]
        metadata = order[0].metadata.without_place()
        placed = [picture for picture in order if picture.metadata.has_place]
        aligned = self.options.align or self.transform is not None
        whole = self.options.align_frame == "full" and pictures[kept[_reference(job, kept)]]
        for picture in placed:
            if picture.pixels.shape[:2] == fused.shape[:2] and (not aligned or picture is whole):
                place = picture.metadata
                metadata = dataclasses.replace(metadata, geo=place.geo, no_data=place.no_data)
                for path, other in zip(job.sources, pictures, strict=True):
                    if other is not picture and _lacks_more(other, picture):
                        notes.remark(path, NO_DATA_DROPPED)
                return metadata, fused if picture.no_data is None else _with_no_data(fused, picture.no_data)
        if placed:
            path = job.sources[[picture is placed[0] for picture in pictures].index(True)]
            notes.remark(path, PLACE_DROPPED)
        return metadata, fused

    def _write(self, job: Job, fused: np.ndarray, metadata: Metadata, notes: Notes) -> None:
        for note in fitted(metadata, job.fused, fused)[1]:
            notes.remark(job.fused, note)
        write_image(job.fused, fused, quality=self.options.quality, metadata=metadata)

    def _maps(self, job: Job, images: Sequence[np.ndarray]) -> tuple[np.ndarray | None, np.ndarray | None]:
        """P's w and v of a pair, (H,W): the weights of source a, where they are asked for or the report shows them."""
        if job.stack or not (job.maps or self.report is not None and self.model.params.p is not None):
            return None, None
        from refusion_jax.imaging.colormaps import apply_colormap

        with tiles_bar(images[0].shape[:2], "w and v") as progress:
            w, v = (weights[..., 0] for weights in self.model.maps(*images, progress=progress))
        for path, weights in zip(job.maps, (w, v), strict=False):
            write_image(path, apply_colormap(weights, "diverging"))
        return w, v


@dataclass
class Run:
    """One range over all pictures of a run, for the frames of a sequence.

    sums: of F's attention over a part of them, so that F does the same at every pixel of all; None where it has none.
    spans: from where to where its outputs and the sources go. folder: of the outputs meanwhile. failed: what went wrong
    with a job when it was looked at, by its result; it is said in the job's turn.
    """

    jobs: Sequence[Job]
    folder: Path
    sums: list[Any] | None = None
    spans: Spans = field(default_factory=Spans)
    failed: dict[Path, Exception] = field(default_factory=dict)

    def file_of(self, job: Job) -> Path:
        """Where the network's output of a job is kept."""
        return self.folder / f"{self.jobs.index(job)}.npy"


def fuse_all(fuse: Fusion, jobs: Sequence[Job], alone: bool) -> int:
    """Every job in turn with a progress bar; how many failed. alone: there is one job, whose error is raised."""
    if fuse.options.range != RUN:
        return _fuse_all(fuse, jobs, alone)
    from refusion_jax.fusing.tiles import added_sums
    from refusion_jax.runtime.disk import scratch_folder

    with tempfile.TemporaryDirectory(dir=scratch_folder()) as folder:
        run = Run(jobs, Path(folder))
        pairs = [job for job in jobs if not job.stack]
        sampled = pairs[:: 1 + len(pairs) // SAMPLED]
        run.sums = added_sums(list(_looked_at(fuse.sums, sampled, "attention of the run", alone, {})))
        list(_looked_at(lambda job: fuse.look(job, run), jobs, "levels of the run", alone, run.failed))
        fuse.run = run
        return _fuse_all(fuse, jobs, alone)


def _looked_at(
    look: Callable[[Job], Any], jobs: Sequence[Job], description: str, alone: bool, failed: dict[Path, Exception]
) -> Iterator[Any]:
    """look(job) of each, with a progress bar. Of several, what goes wrong with one is put into `failed`."""
    from tqdm import tqdm

    for job in tqdm(jobs, description, unit="pair", disable=None, leave=False):
        try:
            yield look(job)
        except (InputError, OSError) as error:
            if alone:
                raise
            failed[job.fused] = error


def _reference(job: Job, images: Sequence[Any]) -> int:
    """Which of the images the others are aligned to: of a stack the middle one, of a pair the first."""
    return len(images) // 2 if job.stack else 0


def _of_size(picture: Picture, size: tuple[int, int]) -> Picture:
    """A picture at another size, with what still holds of its metadata."""
    notes = (*picture.notes, PLACE_DROPPED) if picture.metadata.has_place else picture.notes
    metadata = picture.metadata.without_place()
    return dataclasses.replace(picture, pixels=resize(picture.pixels, size), metadata=metadata, notes=notes)


def _lacks_more(one: Picture, other: Picture) -> bool:
    """Whether one picture has no data where the other, whose marks the result gets, has some."""
    if one.no_data is None or not one.no_data.any():
        return False
    return (
        other.no_data is None or one.no_data.shape != other.no_data.shape or bool((one.no_data & ~other.no_data).any())
    )


def _with_no_data(fused: np.ndarray, no_data: np.ndarray) -> np.ndarray:
    """The picture with 0 where there is no data, and at least 1 in a pixel that has some."""
    least = np.maximum(fused, 1) if fused.ndim == 2 else np.where(fused.any(-1, keepdims=True), fused, 1)
    return np.where(no_data if fused.ndim == 2 else no_data[..., None], 0, least).astype(fused.dtype)


def _fuse_all(fuse: Fusion, jobs: Sequence[Job], alone: bool) -> int:
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
    warnings = []
    for i, (before, luma) in enumerate(pairwise(to_luma(np.asarray(image)) for image in images), 1):
        warning = looks_misregistered(before, luma)
        if warning:
            warnings.append(f"{warning} ({names[i]} against {names[i - 1]})" if len(names) > 2 else warning)
    return warnings


def another_scene(images: Sequence[Any], names: Sequence[str]) -> str | None:
    """A line that names the two most different frames where a stack does not show one scene."""
    found = scenes_apart([thumbnail(to_luma(np.asarray(image))) for image in images])
    if found is None:
        return None
    return f"its frames do not show one scene: {names[found[0]]} and {names[found[1]]} differ most"


def in_one_depth(images: Sequence[np.ndarray], least: int = 8) -> list[np.ndarray]:
    """The pictures, uint8 or uint16, at the largest depth among them, or `least` bits if that is more."""
    deepest = max(least, *(image.dtype.itemsize * 8 for image in images))
    for image in images:
        if isinstance(image, StoredFrame):
            image.bits = deepest
    return [image if isinstance(image, StoredFrame) else to_depth(image, deepest) for image in images]


@contextmanager
def tiles_bar(size: tuple[int, int], made: str = "") -> Iterator[Callable[[int, int], None]]:
    """A progress bar over the tiles of a picture that takes long, as the function to call; removed at the end."""
    from tqdm import tqdm

    name = f"{size[1]}x{size[0]} {made}".strip()
    with tqdm(disable=size[0] * size[1] < LARGE, desc=name, unit="tile", leave=False, delay=1) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield progress
