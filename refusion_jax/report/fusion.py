"""The page of fused pairs: added one by one, kept on disk, written whole at the end."""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from refusion_jax.errors import InputError
from refusion_jax.report.page import checked_path, data_script, escape, page_parts, term_list, unwritable
from refusion_jax.report.pictures import (
    LONGEST_SIDE,
    LOSSLESS_PIXELS,
    QUALITY,
    checked_map,
    checked_picture,
    map_scale_uri,
    map_uri,
    picture_uri,
    shown_size,
    thumbnail_uri,
)
from refusion_jax.runtime.writing import whole_file


class FusionReport:
    """A self-contained HTML page on which every pair can be compared with its fused picture.

        with FusionReport("out.html", "Night drive") as report:
            report.add("0001", infrared, visible, fused, w[..., 0], v[..., 0], {"source A": "ir/0001.png"})

    Pairs are encoded as they are added and kept in an unnamed temporary file; memory holds the name, the facts and a
    thumbnail of each. Nothing is at `path` before `close`, which the end of a `with` calls (after an error the page is
    dropped).

    sources: what the two sources are called. facts: of all pairs alike, such as the checkpoint, shown at the page's
    head. longest_side: larger pictures are scaled down to it, in pixels, and the page says so.
    Raises InputError when `path` does not end in .html or cannot be written.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        title: str,
        *,
        sources: tuple[str, str] = ("source A", "source B"),
        facts: dict[str, str] | None = None,
        longest_side: int = LONGEST_SIDE,
    ):
        if longest_side < 1:
            raise InputError(f"longest_side must be at least 1 pixel, got {longest_side}")
        self.path = checked_path(path)
        self._title, self._sources, self._facts = title, sources, dict(facts or {})
        self._longest_side = longest_side
        self._index: list[dict[str, Any]] = []
        folder = Path(os.path.realpath(self.path)).parent
        try:  # beside the page: there must be room for it there anyway
            folder.mkdir(parents=True, exist_ok=True)
            self._entries = tempfile.TemporaryFile(dir=folder)
        except OSError as error:
            raise unwritable(self.path, error) from None

    def __len__(self) -> int:
        return len(self._index)

    def __enter__(self) -> "FusionReport":
        return self

    def __exit__(self, kind, *_) -> None:
        if kind is None:
            self.close()
        else:
            self._entries.close()

    def add(
        self,
        name: str,
        a: np.ndarray,
        b: np.ndarray,
        fused: np.ndarray,
        w: np.ndarray | None = None,
        v: np.ndarray | None = None,
        facts: dict[str, str] | None = None,
    ) -> None:
        """One more pair.

        a, b, fused: uint8 or uint16, (H,W) or (H,W,3) RGB, of one size. w, v: (H,W), the weight of source a in [0,1] in
        the intensity and the gradient term of F's loss. facts: rows of the pair's table, such as its file names.
        Raises InputError for other arrays or two sizes, and when the disk is full; the pairs before it are kept.
        """
        if self._entries.closed:
            raise InputError(f"the report {self.path} is closed; pair {name} cannot be added")
        given = {"a": a, "b": b, "fused": fused}
        pictures = {key: checked_picture(array, f"{name}, {key}") for key, array in given.items()}
        shape = pictures["fused"].shape[:2]
        for key, pixels in pictures.items():
            if pixels.shape[:2] != shape:
                raise InputError(
                    f"{name}, {key}: expected {shape[1]}x{shape[0]} pixels like the fused picture, "
                    f"got {pixels.shape[1]}x{pixels.shape[0]}"
                )
        size = shown_size(shape, self._longest_side)
        layers = {key: picture_uri(pixels, size) for key, pixels in pictures.items()}
        for key, values in (("w", w), ("v", v)):
            if values is not None:
                layers[key] = map_uri(checked_map(values, shape, f"{name}, {key}"), size)
        rows = {str(key): str(value) for key, value in (facts or {}).items()}
        rows.setdefault("size", f"{shape[1]} × {shape[0]} pixels, {_kinds(given)}")
        if size != (shape[1], shape[0]):
            rows["shown at"] = f"{size[0]} × {size[1]} pixels"
        start = self._entries.tell()
        try:
            self._entries.write(data_script(f"pair-{len(self._index)}", layers).encode())
            self._entries.flush()
        except OSError as error:
            self._entries.seek(start)
            self._entries.truncate()
            raise unwritable(self.path, error) from None
        self._index.append(
            {
                "name": str(name),
                "width": size[0],
                "height": size[1],
                "layers": list(layers),
                "facts": list(rows.items()),
                "thumbnail": thumbnail_uri(pictures["fused"]),
            }
        )

    def close(self) -> Path:
        """Writes the page and returns its path; a second call does nothing. InputError where it cannot be written."""
        if self._entries.closed:
            return self.path
        notes = f"Pictures of up to {LOSSLESS_PIXELS:,} pixels are stored without loss, larger ones as JPEG of quality "
        notes += f"{QUALITY}; a longest side over {self._longest_side:,} pixels is scaled down to that."
        values = {
            "title": escape(self._title),
            "start": "wipe",
            "facts": term_list([("pairs", f"{len(self._index):,}"), *self._facts.items()]),
            "a": escape(self._sources[0]),
            "b": escape(self._sources[1]),
            "notes": notes,
            "scale": map_scale_uri(),
        }
        before, script, end = page_parts("fusion", values)
        index = {"sources": list(self._sources), "pairs": self._index}
        with self._entries, whole_file(self.path) as page:
            page.write((before + data_script("index", index) + script).encode())
            # The pairs come after the script, so that a large page is usable while the rest is still being read.
            self._entries.seek(0)
            shutil.copyfileobj(self._entries, page, 2**20)
            page.write(end.encode())
        return self.path


def _kinds(pictures: dict[str, np.ndarray]) -> str:
    """ "colour, 8 bits" or, where the pictures differ, each one's kind."""
    kinds = {
        key: f"{'grey' if np.ndim(x) == 2 else 'colour'}, {16 if np.asarray(x).dtype == np.uint16 else 8} bits"
        for key, x in pictures.items()
    }
    if len(set(kinds.values())) == 1:
        return kinds["fused"]
    names = {"a": "A", "b": "B", "fused": "fused"}
    return "; ".join(f"{names[key]} {kind}" for key, kind in kinds.items())
