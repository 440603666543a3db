"""Image files put together byte by byte for the tests: TIFF and PNG of layouts that the libraries do not write."""

import struct
import zlib

import numpy as np
import pytest

from refusion_jax.errors import InputError

RAMP = np.arange(65536, dtype=np.uint16).reshape(256, 256)  # every level of 16 bits
RAMP_RGB = np.stack([RAMP, RAMP[::-1, ::-1], np.roll(RAMP, 12345)], axis=-1)

# What each EXIF orientation asks a viewer to do with the stored rows.
ORIENTED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a[::-1].swapaxes(0, 1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a[:, ::-1].swapaxes(0, 1),
}


def refused(function, path, *words):
    """The one line with which `function` refuses a file; it names the path and has all the words."""
    with pytest.raises(InputError) as caught:
        function(path)
    message = str(caught.value)
    assert "\n" not in message and str(path) in message
    for word in words:
        assert word in message
    return message


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(array, *chunks):
    """A PNG of uint8 or uint16 with 1 to 4 channels; `chunks` stand before the pixels."""
    height, width = array.shape[:2]
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[1 if array.ndim == 2 else array.shape[2]]
    header = struct.pack(">IIBBBBB", width, height, 8 * array.itemsize, kind, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(row.dtype.newbyteorder(">")).tobytes() for row in array)
    parts = [png_chunk(b"IHDR", header), *chunks, png_chunk(b"IDAT", zlib.compress(rows)), png_chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def tiff(
    array,
    order="<",
    photometric=None,
    extra=(),
    planar=False,
    deflate=False,
    predictor=False,
    tile=None,
    rows=None,
    tags=None,
):
    """A TIFF of any integer or float array (H,W) or (H,W,C), in strips of `rows` rows or tiles of `tile` = (h, w)."""
    array = array[..., None] if array.ndim == 2 else array
    height, width, channels = array.shape
    block_height, block_width = tile or (rows or height, width)
    pieces = []
    for plane in np.moveaxis(array, -1, 0)[..., None] if planar else [array]:
        for top in range(0, height, block_height):
            for left in range(0, width, block_width):
                piece = plane[top : top + block_height, left : left + block_width]
                if tile:
                    edges = ((0, block_height - piece.shape[0]), (0, block_width - piece.shape[1]), (0, 0))
                    piece = np.pad(piece, edges)
                if predictor:
                    piece = np.diff(piece, axis=1, prepend=np.zeros_like(piece[:, :1]))
                data = piece.astype(piece.dtype.newbyteorder(order)).tobytes()
                pieces.append(zlib.compress(data) if deflate else data)
    offsets = 8 + np.cumsum([0] + [len(piece) for piece in pieces[:-1]])
    kind = {"u": 1, "i": 2, "f": 3}[array.dtype.kind]
    if photometric is None:
        photometric = 2 if channels >= 3 else 1
    entries = {
        256: ("H", [width]),
        257: ("H", [height]),
        258: ("H", [8 * array.itemsize] * channels),
        259: ("H", [8 if deflate else 1]),
        262: ("H", [photometric]),
        277: ("H", [channels]),
        284: ("H", [2 if planar else 1]),
        339: ("H", [kind] * channels),
    }
    if tile:
        entries |= {322: ("H", [tile[1]]), 323: ("H", [tile[0]])}
    else:
        entries[278] = ("H", [block_height])
    first, second = (324, 325) if tile else (273, 279)
    entries |= {first: ("I", offsets.tolist()), second: ("I", [len(piece) for piece in pieces])}
    if predictor:
        entries[317] = ("H", [2])
    if extra:
        entries[338] = ("H", list(extra))
    packed = {
        tag: ({"H": 3, "I": 4}[code], struct.pack(f"{order}{len(values)}{code}", *values))
        for tag, (code, values) in (entries | (tags or {})).items()
    }
    body = b"".join(pieces)
    start = 8 + len(body)
    return _header(order, start) + body + directory(order, packed, start)


def exif(order, main, camera=None, position=None, thumbnail=b""):
    """An EXIF block without prefix: directories {tag: (type number, bytes)}, and a JPEG as thumbnail."""
    main = dict(main)
    pointers = {tag: entries for tag, entries in ((34665, camera), (34853, position)) if entries}
    main |= {tag: (4, bytes(4)) for tag in pointers}
    start = 8 + len(directory(order, main, 8))
    tail = b""
    for tag, entries in pointers.items():
        main[tag] = (4, struct.pack(order + "I", start + len(tail)))
        tail += directory(order, entries, start + len(tail))
    following = start + len(tail) if thumbnail else 0
    if thumbnail:
        entries = {259: (3, struct.pack(order + "H", 6)), 514: (4, struct.pack(order + "I", len(thumbnail)))}
        entries[513] = (4, struct.pack(order + "I", following + 2 + 3 * 12 + 4))
        tail += directory(order, entries, following) + thumbnail
    return _header(order, 8) + directory(order, main, 8, following) + tail


def directory(order, entries, start, following=0):
    """A directory {tag: (type number, bytes)} that stands at `start`, with its data."""
    sizes = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1, 10: 8}
    table, data = struct.pack(order + "H", len(entries)), b""
    for tag, (kind, value) in sorted(entries.items()):
        table += struct.pack(order + "HHI", tag, kind, len(value) // sizes[kind])
        if len(value) <= 4:
            table += value.ljust(4, b"\0")
        else:
            table += struct.pack(order + "I", start + 2 + 12 * len(entries) + 4 + len(data))
            data += value
    return table + struct.pack(order + "I", following) + data


def _header(order, start):
    return (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, start)


def touch(folder, *names):
    """Empty files: pairs are found by name alone."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
