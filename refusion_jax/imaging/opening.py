"""A picture file opened and its header read: limits before decoding, what Pillow hides, every failure one line."""

import errno
import io
import os
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from refusion_jax.errors import InputError
from refusion_jax.imaging import deep, tiff
from refusion_jax.imaging.exif import BLOCK_PREFIX
from refusion_jax.imaging.pixels import shown_shape


class _LiftedLimit:
    """Lifts Pillow's limit on pixels while any file is open here: it is a module variable, ours is an argument.

    Counted, so that threads decode at once and the last one to finish restores the value.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = 0
        self.previous: int | None = None

    def __enter__(self) -> None:
        with self.lock:
            if self.users == 0:
                self.previous, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            self.users += 1

    def __exit__(self, *exception: object) -> None:
        with self.lock:
            self.users -= 1
            if self.users == 0:
                Image.MAX_IMAGE_PIXELS = self.previous


_lifted_limit = _LiftedLimit()


@dataclass
class Source:
    """An open file and what its header says.

    Attributes:
      image: Pillow's image, not decoded; None for a TIFF that only `tiff.decode` reads.
      head: the first bytes of the file.
      tags, layout: of a TIFF; None for other files, and where Pillow reads a TIFF that these make no sense of.
    """

    path: Path
    file: BinaryIO
    head: bytes
    image: Image.Image | None
    tags: ImageFileDirectory_v2 | None = None
    layout: tiff.Layout | None = None

    @property
    def is_deep_png(self) -> bool:
        """More than one channel of 16 bits: Pillow would give the 8 high bits."""
        return self.image is not None and self.image.format == "PNG" and deep.is_deep(self.head)

    @property
    def is_deep_tiff(self) -> bool:
        """16 bits that Pillow would not read, or not exactly."""
        return self.layout is not None and self.layout.is_deep and not self.layout.is_plain_grey

    @cached_property
    def orientation(self) -> int:
        """The EXIF orientation 1..8, which has to be applied to the pixels as stored; 1 where it is damaged.

        Of a PNG only if it stands before the pixels: asking for a later one would decode the whole picture. Reading
        and sizing follow this one rule, so they agree.
        """
        if self.image is None:
            return self.layout.orientation
        early = ("exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp")
        if self.image.format == "PNG" and not any(key in self.image.info for key in early):
            return 1
        with suppress(Exception):
            value = self.image.getexif().get(ExifTags.Base.Orientation)
            if isinstance(value, int) and 1 <= value <= 8:
                return value
        return 1

    def exif_file(self) -> BinaryIO | None:
        """The directories of EXIF, where `exif.read` finds them: the file itself if it is a TIFF. None without any."""
        if self.head.startswith(tiff.PREFIXES):
            return self.file
        block = self.image.info.get("exif")
        if block is None and "Raw profile type exif" in self.image.info:  # as text, by old versions of ImageMagick
            block = self.image.getexif().tobytes()
        return io.BytesIO(block.removeprefix(BLOCK_PREFIX)) if block else None

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) of the picture as shown."""
        if self.image is None:
            return shown_shape(self.layout.height, self.layout.width, self.orientation)
        width, height = self.image.size
        # Pillow's TIFF reader has exchanged the two already.
        return (height, width) if self.image.format == "TIFF" else shown_shape(height, width, self.orientation)


@contextmanager
def opened(path: str | os.PathLike, max_pixels: int) -> Iterator[Source]:
    """The opened file, not yet decoded. Whatever opening or decoding it raises becomes an InputError of one line."""
    path = Path(path)
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise InputError(f"{path}: expected an image file, got a folder")
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"{path}: expected an image file, got something that is not a regular file")
        if status.st_size == 0:
            raise InputError(f"{path}: the file is empty (0 bytes)")
        with open(path, "rb") as file, _lifted_limit, warnings.catch_warnings():
            # Pillow warns of odd tags on the way to its error, or where nothing is wrong with the pixels. Should
            # two threads restore each other's filters, this one stays: harmless.
            warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
            source = _read_header(path, file)
            height, width = source.shape
            if width * height > max_pixels:
                raise InputError(
                    f"{path}: {width}x{height} is {width * height} pixels, over the limit of {max_pixels};"
                    " scale the image down or raise max_pixels"
                )
            yield source
    except InputError:
        raise
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"{path}: no such file") from error
    except UnidentifiedImageError as error:
        raise InputError(f"{path}: not an image, or in a format that Pillow cannot read") from error
    except OSError as error:
        if error.errno is not None:
            raise InputError(f"cannot read {path}: {reason(error)}") from error
        raise InputError(f"{path}: damaged or truncated image: {one_line(error)}") from error
    except MemoryError as error:
        raise InputError(f"{path}: not enough memory to hold the image; scale it down") from error
    except KeyError as error:
        raise InputError(f"{path}: damaged image: the tag {error} is missing") from error
    except Exception as error:  # noqa: BLE001 - decoders raise anything on damaged bytes
        raise InputError(f"{path}: damaged or unsupported image: {one_line(error)}") from error


def _read_header(path: Path, file: BinaryIO) -> Source:
    head = file.read(26)
    file.seek(0)
    is_tiff = head.startswith(tiff.PREFIXES)
    try:
        image = Image.open(file)
    except UnidentifiedImageError:
        if not is_tiff:
            raise
        tags = tiff.read_tags(file)
        layout = tiff.read_layout(tags)
        if not layout.is_deep:
            raise _unsupported(path, layout) from None
        return Source(path, file, head, None, tags, layout)
    source = Source(path, file, head, image)
    if image.format == "TIFF":
        with suppress(Exception):  # Pillow has opened it: it will say what is wrong, if anything is
            source.layout = tiff.read_layout(image.tag_v2)
            source.tags = image.tag_v2
        if source.layout is not None and image.mode == "L" and source.layout.sample == tiff.SIGNED:
            raise _unsupported(path, source.layout)  # Pillow would read it as unsigned
    return source


def _unsupported(path: Path, layout: tiff.Layout) -> InputError:
    return InputError(
        f"{path}: expected a TIFF of 8 or 16 unsigned bits per channel, grey or RGB, got {layout};"
        " save it with 8 or 16 bits"
    )


def reason(error: OSError) -> str:
    """Why the system refused, in words that help."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full; free some space and run again"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{os.strerror(error.errno).lower()}; choose a place that you may use"
    return one_line(error.strerror or error)


def one_line(error: object) -> str:
    """Any error's text as one line."""
    return " ".join(str(error).split()) or type(error).__name__
