"""Small pictures in files of every kind, made here so that none is stored."""

from io import BytesIO

import numpy as np
from PIL import Image

RANDOM = np.random.default_rng(0)
RGB = RANDOM.integers(0, 256, (6, 5, 3), dtype=np.uint8)
FRAMES = {"save_all": True, "append_images": [Image.fromarray(RGB[::-1]), Image.fromarray(RGB[:, ::-1])]}


def file_of(image, kind="PNG", **settings):
    file = BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, kind, **settings)
    return file.getvalue()


def palette(**settings):
    image = Image.fromarray(np.arange(30, dtype=np.uint8).reshape(6, 5) % 4)
    image = image.convert("P")
    image.putpalette([200, 10, 20, 30, 220, 40, 50, 60, 230, 9, 8, 7])
    return image, settings


def alpha(mode):
    image = Image.fromarray(np.dstack([RGB, RANDOM.integers(0, 256, (6, 5), dtype=np.uint8)]))
    return image.convert(mode)


FILES = {
    "rgb png": file_of(RGB),
    "grey": file_of(RGB[..., 0]),
    "one bit": file_of(Image.fromarray(RGB[..., 0]).convert("1")),
    "palette": file_of(palette()[0]),
    "palette, a transparent colour": file_of(palette()[0], transparency=2),
    "palette, alphas": file_of(palette()[0], transparency=bytes([0, 90, 255, 7])),
    "palette gif": file_of(palette()[0], "GIF", transparency=1),
    "grey with alpha": file_of(alpha("LA")),
    "alpha": file_of(alpha("RGBA")),
    "a transparent colour": file_of(RGB, transparency=tuple(int(v) for v in RGB[0, 0])),
    "alpha webp": file_of(alpha("RGBA"), "WEBP", lossless=True, exact=True),
    "cmyk tiff": file_of(Image.fromarray(RGB).convert("CMYK"), "TIFF"),
    "cmyk jpeg": file_of(Image.fromarray(RGB).convert("CMYK"), "JPEG"),
    "jpeg": file_of(RGB, "JPEG"),
    "grey jpeg": file_of(RGB[..., 0], "JPEG"),
    "bmp": file_of(RGB, "BMP"),
    "ppm": file_of(RGB, "PPM"),
    "lab tiff": file_of(Image.merge("LAB", [Image.fromarray(RGB[..., c]) for c in range(3)]), "TIFF"),
    "profile": file_of(RGB, icc_profile=b"not even a profile"),
    "gif, three frames": file_of(RGB, "GIF", **FRAMES),
    "tiff, three pages": file_of(RGB, "TIFF", **FRAMES),
    "webp, three frames": file_of(RGB, "WEBP", lossless=True, **FRAMES),
}
WIDE = RANDOM.integers(0, 65536, (6, 5), dtype=np.uint16)


def tiff(values, bits, photometric):
    """A grey TIFF by hand, uncompressed: Pillow writes neither 12 bits nor white as 0."""
    import struct

    if bits == 16:
        data = values.astype("<u2").tobytes()
    else:
        rows = ["".join(f"{v:0{bits}b}" for v in row) for row in values]
        data = b"".join(int(row + "0" * (-len(row) % 8), 2).to_bytes(-(-len(row) // 8), "big") for row in rows)
    (height, width), count = values.shape, len(data)
    tags = [(256, width), (257, height), (258, bits), (259, 1), (262, photometric)]
    tags += [(273, 8), (277, 1), (278, height), (279, count)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<I", 8 + count) + data + struct.pack("<H", len(tags)) + entries + bytes(4)
