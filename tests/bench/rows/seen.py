"""Images: the tower at full size, and what comes before it."""

from collections.abc import Iterator

from ..drawn import image, pixels
from ..row import TRANSFORMERS, Entry, Job, Options, Row

PHOTO = {"height": 1_200, "width": 1_600}
TIMES = 4  # photos of a timing


def rows(options: Options) -> Iterator[Row]:
    """List the rows."""
    theirs = [
        Entry(
            f"transformers {attention}",
            "peers.of_transformers:tower",
            {"folder": "file:folder-vision", "attention": attention},
            TRANSFORMERS,
        )
        for attention in ("sdpa", "eager")
    ]
    what = "an image of 896 x 896 through 27 blocks and the projector, made-up weights, float32"
    yield Row("tower", what, [Entry("ref", "rows.seen:tower"), *theirs], 1, "images/s")
    for name, crops in (("resize", False), ("pan-and-scan", True)):
        given = PHOTO | {"crops": crops, "times": TIMES}
        entries = [
            Entry("ref", "rows.seen:preprocess", given),
            Entry("transformers pillow", "peers.of_transformers:preprocess", given, TRANSFORMERS),
        ]
        what = f"a photo of 1,600 x 1,200 to {'squares of it and of its crops' if crops else 'a square'} of 896"
        yield Row(name, what, entries, TIMES, "images/s")


def tower() -> Job:
    """Run the vision tower and the projector on one image."""
    import ref
    from ref.model.vision import encode_images

    vision = ref.load("synthetic:4b-pair", "float32").vision
    assert vision
    vision = vision._replace(layers=list(vision.layers))
    seen = pixels(vision.config.image)
    return Job(lambda: encode_images(vision, seen))


def preprocess(height: int, width: int, crops: bool, times: int) -> Job:
    """Resize an image, and crops of it if asked."""
    import ref
    from ref.config import CROPS

    picture, cut = image(height, width), CROPS["transformers"] if crops else None
    return Job(lambda: [ref.preprocess(picture, cut) for _ in range(times)])
