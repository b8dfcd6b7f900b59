"""Images in each other's places, in one prompt and in rows of a batch; rows of text, too."""

import pytest
from support.caused import only_cause, right, values_of
from support.image_dumps import prompt_with, report_of_images, report_of_rows, taps_with_images

from ref.config import VISION
from ref.golden_files.sampled import made_pixels

SOFT, MERGED, EMBED = "vision.soft_tokens", "model.merged", "text.embed"
ORDER = [2, 0, 1]  # no inverse of itself, so that it tells which way round it is read
ROWS = range(len(ORDER))


def inserted(at, soft):
    """Put soft tokens into the places of images."""
    x = at[EMBED].copy()
    x[0, at.one_pass.places[0]] = soft.reshape(-1, x.shape[-1])
    return x


@pytest.mark.parametrize(
    ("tap", "order"),
    [  # features that are inserted last image first have a name in the catalogue
        (SOFT, ORDER), (SOFT, [2, 1, 0]), (SOFT, [0, 2, 1]), (MERGED, ORDER), (MERGED, [0, 2, 1]),
    ],
)  # fmt: skip
def test_images_that_stand_in_another_order(tap, order):
    rules = {SOFT: lambda at: right(SOFT)(at)[order], MERGED: lambda at: inserted(at, at[SOFT][order])}
    cause = only_cause(report_of_images(len(order), {tap: rules[tap]}))
    assert (cause["mutant"], values_of(cause), cause["taps"]) == ("images_permuted", {"order": order}, [tap])


def rows_with(images, rules=None):
    """Compute rows of a batch with so many images each; `rules(i)` are row i's."""
    rows = [prompt_with(images, seed) for seed in ROWS]
    made = made_pixels(len(ORDER), VISION["tiny"].image)
    pixels = [made[i : i + 1] if images else None for i in ROWS]
    taps = [taps_with_images(rows[i], pixels[i], rules and rules(i)) for i in ROWS]
    return rows, pixels, taps


@pytest.mark.parametrize("tap", [SOFT, MERGED])
def test_rows_that_have_the_images_of_others(tap):
    soft = [one[SOFT] for one in rows_with(1)[2]]
    rules = {SOFT: lambda at, row: soft[row], MERGED: lambda at, row: inserted(at, soft[row])}
    cause = only_cause(report_of_rows(*rows_with(1, lambda i: {tap: lambda at: rules[tap](at, ORDER[i])})))
    assert (cause["mutant"], values_of(cause), cause["taps"]) == ("rows_permuted", {"order": ORDER}, [tap])
    assert cause["passes"] == [*ROWS]
    assert cause["what"].startswith("Images of rows of the batch are exchanged: row 0 has those of row 2,")


def test_rows_that_have_the_tokens_of_others():
    embedded = [one[EMBED] for one in rows_with(0)[2]]
    cause = only_cause(report_of_rows(*rows_with(0, lambda i: {EMBED: lambda at: embedded[ORDER[i]]})))
    assert (cause["mutant"], values_of(cause), cause["taps"]) == ("rows_permuted", {"order": ORDER}, [EMBED])


@pytest.mark.parametrize("images", [0, 1])
def test_right_rows_are_called_nothing(images):
    report = report_of_rows(*rows_with(images))
    assert (report["verdict"], report["causes"]) == ("match", [])


def test_right_images_are_called_nothing():
    report = report_of_images(3, {MERGED: lambda at: inserted(at, at[SOFT])})
    assert (report["verdict"], report["causes"]) == ("match", [])
