"""A FLIR radiometric JPEG as its format is described (exiftool.org/TagNames/FLIR.html), small enough for tests."""

import io
import struct

import numpy as np
from PIL import Image

_PLANCK = {88: 16951.8, 92: 1435.1, 96: 1.0}  # offsets in the record of the camera: R1, B, F
_AIR = {32: 0.95, 36: 1.0, 40: 293.15, 44: 293.15, 48: 293.15, 52: 1.0, 60: 0.5}
_TRANSMISSION = {112: 0.006569, 116: 0.01262, 120: -0.002276, 124: -0.00667, 128: 1.9}


def flir_jpeg(thermal: np.ndarray, visible: np.ndarray | None, relation: tuple[float, int, int] | None) -> bytes:
    """thermal: raw counts uint16 (H,W). visible: uint8 (H,W,3). relation: Real2IR, OffsetX, OffsetY."""
    records = [(1, _sized(thermal.shape) + thermal.astype("<u2").tobytes()), (32, _camera())]
    if visible is not None:
        records.append((14, _sized(visible.shape) + _jpeg(visible)))
    if relation is not None:
        records.append((42, struct.pack("<f6h", *relation, 0, thermal.shape[1] - 1, 0, thermal.shape[0] - 1)))
    entries, body = b"", b""
    count = len(records) + 2  # cameras leave some entries empty, and readers count on that
    for kind, data in records:
        entries += struct.pack(">HHIIII12x", kind, 1, 100, 1, 64 + 32 * count + len(body), len(data))
        body += data
    header = struct.pack(">4s16sIIII28x", b"FFF\0", b"CAMCTRL", 100, 64, count, 2)
    content = header + entries + bytes(64) + body
    parts = [content[i : i + 60000] for i in range(0, len(content), 60000)]
    segments = [
        b"\xff\xe1" + struct.pack(">H", len(part) + 10) + b"FLIR\0\x01" + bytes([i, len(parts) - 1]) + part
        for i, part in enumerate(parts)
    ]
    shown = _jpeg(np.full((24, 32, 3), 90, np.uint8))
    return shown[:2] + b"".join(segments) + shown[2:]


def _sized(shape) -> bytes:
    return struct.pack("<HHH26x", 2, shape[1], shape[0])


def _camera() -> bytes:
    record = bytearray(900)
    for offset, value in (_PLANCK | _AIR | _TRANSMISSION).items():
        struct.pack_into("<f", record, offset, value)
    struct.pack_into("<if", record, 776, -7142, 0.0142949)
    return bytes(record)


def _jpeg(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()
