"""Mistakes in how images stand in a prompt: markers, newlines, soft tokens, places, crops."""

from collections.abc import Callable

from ref.mutants.base import RuleMutant
from ref.mutants.needs import Needs
from ref.mutants.prompt_parts import AND, SOFT, changed, laid_out, words
from ref.prompt.chat import MARKER


def _images(first: bool) -> Callable[[str], str]:
    def arrange(text: str) -> str:
        markers, rest = MARKER * text.count(MARKER), text.replace(MARKER, "")
        return markers + rest if first else rest + markers

    return arrange


_IMAGE, _CROPS = Needs(image="one"), Needs(image="with crops")

IMAGE_MUTANTS: list[RuleMutant] = [
    RuleMutant(
        name="prompt_newlines_apart",
        what="newlines beside an image are tokens of their own, as in google-deepmind/gemma",
        needs=Needs(note="layout transformers, and an image with a newline beside it, as in a chat"),
        run=laid_out("gemma"),
    ),
    RuleMutant(
        name="prompt_newlines_merged",
        what="newlines beside an image are merged with the image's, as in transformers",
        needs=Needs(note="layout gemma, and an image with a newline beside it, as in a chat"),
        run=laid_out("transformers"),
    ),
    RuleMutant(
        name="prompt_no_newlines_around_image",
        what="an image has no blank lines around it",
        needs=_IMAGE,
        run=changed(image=f"{MARKER}{{soft}}<end_of_image>"),
    ),
    RuleMutant(
        name="prompt_soft_tokens_less",
        what="an image has one soft token less: 255",
        needs=_IMAGE,
        run=changed(more=-1),
    ),
    RuleMutant(
        name="prompt_soft_tokens_more",
        what="an image has one soft token more: 257",
        needs=_IMAGE,
        run=changed(more=1),
    ),
    RuleMutant(
        name="prompt_image_markers_swapped",
        what="<end_of_image> begins an image, and <start_of_image> ends it",
        needs=_IMAGE,
        run=changed(image=f"\n\n<end_of_image>{{soft}}{MARKER}\n\n"),
    ),
    RuleMutant(
        name="prompt_end_of_image_262144",
        what="<end_of_image> is 262144, a stale constant; it is 256000",
        needs=_IMAGE,
        run=changed(image=f"\n\n{MARKER}{{soft}}{SOFT}\n\n"),
    ),
    RuleMutant(
        name="prompt_images_last",
        what="images come after the text of their turn, wherever they stood",
        needs=Needs(image="with something of its turn behind it"),
        run=changed(arrange=_images(False)),
    ),
    RuleMutant(
        name="prompt_images_first",
        what="images come before the text of their turn, wherever they stood",
        needs=Needs(image="with something of its turn before it"),
        run=changed(arrange=_images(True)),
    ),
    RuleMutant(
        name="prompt_crops_not_told",
        what="an image with crops is one image in the prompt",
        needs=_CROPS,
        run=changed(words=lambda crops: MARKER),
    ),
    RuleMutant(
        name="prompt_crops_without_whole",
        what="of an image with crops only the crops are in the prompt",
        needs=_CROPS,
        run=changed(words=lambda crops: " ".join([MARKER] * max(1, crops))),
    ),
    RuleMutant(
        name="prompt_crops_in_small_words",
        what="a variant: the words around crops begin small and have no spaces",
        needs=_CROPS,
        run=changed(words=lambda crops: words(crops, "here is the original image", AND.strip(), "")),
    ),
]
