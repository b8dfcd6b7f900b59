"""Image files to bytes of red, green and blue: what Pillow leaves to chance is decided here."""

import logging
import warnings
from io import BytesIO
from os import PathLike
from pathlib import Path

import numpy as np

from ref.errors import BadInput, wanted
from ref.ops.resize import LONGEST_SIDE
from ref.untrusted import open_regular

logging.getLogger("PIL").addHandler(logging.NullHandler())  # else what it logs of damaged files goes to stderr

MOST_PIXELS = 64_000_000  # ours, looked at before decoding; Pillow warns from 89 MP and refuses from 179
BITS, PHOTOMETRIC = 258, 262  # TIFF tags
ORIENTATION = 0x0112  # the EXIF tag; what undoes each value, on [Y, X, ...]
UPRIGHT = {
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: image[::-1].swapaxes(0, 1),
    7: lambda image: image[::-1, ::-1].swapaxes(0, 1),
    8: lambda image: image[:, ::-1].swapaxes(0, 1),
}


def read_file(source: str | PathLike | bytes | bytearray | memoryview, where: object) -> np.ndarray:
    """Decode the first frame of an image file that Pillow opens, upright, as red, green and blue.

    Args:
        source: path of a regular file, or the bytes of one.
        where: what a refusal calls it.

    Returns:
        [Y, X, 3] uint8, by these decisions:
        - EXIF orientation is applied, and ignored where the EXIF block cannot be read.
        - Transparency is dropped, of palettes too: a pixel keeps the colour that hides under it. A logo on a
          transparent ground comes out on whatever its ground happens to hold, often black.
        - Palettes, grey, 1 bit, CMYK, YCbCr, HSV and LAB become RGB as `Image.convert("RGB")` makes them.
        - 16-bit grey v becomes floor((v + 128) / 257), the nearest of 256 levels; in a TIFF that counts down from
          white, of 65535 - v. Of 16-bit colour Pillow passes on the upper byte only, which is up to one level lower.
        - Of animations and multi-page files the first frame is taken. Colour profiles and gamma are ignored.

    Raises:
        BadInput: no regular file, no image, truncated or damaged, more than 64 MP, 32-bit integers or floats (their
            range is unknown), TIFF of 9 to 15 bits (which Pillow does not scale), EPS (a program that Ghostscript
            would have to run).

    Source: transformers 5.23 `load_image`, which reads the paths and URLs of a chat: orientation, then "RGB".
    Differs: transformers' image processor, given a PIL image instead, does not turn it and lays transparent ones over
        white. google-deepmind/gemma and gemma_pytorch do not turn either. `convert("RGB")` clips 16-bit grey, so that
        nearly all of it is white.
    """
    from PIL import Image, UnidentifiedImageError

    file = (
        BytesIO(source)
        if isinstance(source, (bytes, bytearray, memoryview))
        else open_regular(Path(source), "image", where)
    )
    with file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of things that are decided or refused here
        try:
            with Image.open(file) as image:
                check_sides(image.height, image.width, where)
                if image.format == "EPS":
                    raise wanted("image", where, "pixels", "EPS, a program")
                image.load()
                check_sides(image.height, image.width, where)  # icons tell the true size only now
                return np.array(_turn(_to_rgb(image, where), image), order="C")
        except BadInput:
            raise
        except Image.DecompressionBombError as error:
            raise wanted("image", where, f"at most {MOST_PIXELS:,} pixels", error) from None
        except UnidentifiedImageError:
            raise wanted("image", where, "a file that Pillow can read", "no image, or of an unknown kind") from None
        except Exception as error:  # every decoder has its own ways to fail on damaged files
            raise wanted("image", where, "a whole and sound file", f"{type(error).__name__}: {error}") from None


def check_sides(height: int, width: int, where: object) -> None:
    """Refuse an image without pixels, and one with more than 64 MP.

    Args:
        height, width: in pixels.
        where: what a refusal calls it.

    Raises:
        BadInput: a side of 0 or over 2^24, or too many pixels.
    """
    if min(height, width) < 1:
        raise wanted("image", where, "sides of at least 1 pixel", f"{width} x {height}")
    if max(height, width) > LONGEST_SIDE:
        raise wanted("image", where, f"sides of at most {LONGEST_SIDE:,} pixels", f"{width} x {height}")
    if height * width > MOST_PIXELS:
        raise wanted("image", where, f"at most {MOST_PIXELS:,} pixels", f"{width} x {height} = {width * height:,}")


def to_levels(wide: np.ndarray) -> np.ndarray:
    """Scale 16-bit values to the nearest of 256 levels.

        floor((v + 128) / 257) = v * 255 / 65535 rounded; no v lies halfway, since 257 is odd

    Args:
        wide: [...] integers from 0 to 65535.

    Returns:
        [...] uint8.

    Differs: keeping the upper byte, v >> 8, is up to one level lower; Pillow's "I;16" to "RGB" clips at 255.
    """
    return ((wide.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _to_rgb(image, where):
    """Turn a decoded Pillow image into [Y, X, 3] uint8."""
    sixteen_bits = image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PPM", "PNG"))
    if sixteen_bits:
        wide = np.asarray(image)
        if image.format == "TIFF":
            wide = _from_black(wide, image, where)
        return to_levels(wide)[..., None].repeat(3, axis=-1)
    if image.mode in ("I", "F"):
        got = f"mode {image.mode}, whose range is unknown (read it yourself and pass an array)"
        raise wanted("image", where, "8 or 16 bits a channel", got)
    return np.asarray(image.convert("RGB"))


def _from_black(wide, image, where):
    """Return a TIFF's 16-bit values so that 0 is black; Pillow passes them on as they lie in the file."""
    bits, white_is_zero = int(np.ravel(image.tag_v2.get(BITS, 16))[0]), image.tag_v2.get(PHOTOMETRIC) == 0
    if bits != 16:
        raise wanted("image", where, "8 or 16 bits a channel", f"TIFF of {bits} bits")
    return 65_535 - wide.astype(np.int64) if white_is_zero else wide


def _turn(pixels, image):
    """Undo the EXIF orientation; Pillow's TIFF reader has done so by itself, and removed the tag."""
    try:
        return UPRIGHT.get(image.getexif().get(ORIENTATION), np.asarray)(pixels)
    except Exception:  # damaged EXIF is no reason to refuse a picture
        return pixels
