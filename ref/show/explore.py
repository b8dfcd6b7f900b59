"""What the explore page shows of one prompt: predictions of every layer, attention, norms, images."""

import base64
import io
import zlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ref.errors import wanted
from ref.model.multimodal import Images, forward_images, soft_places
from ref.model.taps import Recorder
from ref.model.text import How, forward
from ref.prompt.tokenizer import Tokenizer
from ref.report.page import as_json
from ref.show.lens import Lens, logit_lens

if TYPE_CHECKING:
    from ref.weights.resolve import Loaded


MOST_TOKENS = 1280  # a photo with three crops is 1,024
TOP, NEXT = 5, 10  # tokens shown of each depth's distribution, and of the last's
ADDED = ("attn.post_norm", "ffn.post_norm")
SIDE = 448  # of a picture on the page, in pixels


class Photo(NamedTuple):
    """A picture as the user gave it, and its crops."""

    image: np.ndarray  # [Y, X, 3] uint8
    boxes: np.ndarray  # [n, 4] y0, x0, y1, x1


class Explored(NamedTuple):
    """Everything that a page is made of."""

    facts: dict[str, Any]  # small; JSON as it is
    attention: list[np.ndarray]  # of each layer [N, T, T]
    ranges: list[np.ndarray]  # of each layer [T, 2]: keys that each query sees


def explore(
    loaded: "Loaded",
    ids: Sequence[int],
    tokenizer: Tokenizer | None = None,
    images: Images | None = None,
    photos: Sequence[Photo] = (),
    how: How = How(),  # noqa: B008
    progress: Callable[[int, int], Any] | None = None,
) -> Explored:
    """Run a prompt once and gather what happened inside.

    Args:
        loaded: weights, from `ref.weights.resolve.load`.
        ids: [T] token ids, soft tokens of images among them.
        tokenizer: for their texts; None shows ids.
        images: those of the prompt.
        photos: the pictures that the images were made of, in their order.
        how: ops and dtype.
        progress: called with rows of logits done and all.

    Raises:
        BadInput: more than 1,280 tokens; ids out of range; soft tokens unlike the images.

    Source: own; logit lens: see `logit_lens`.
    """
    if len(ids) > MOST_TOKENS:
        raise wanted("prompt", "explore", f"at most {MOST_TOKENS} tokens", len(ids))
    params, config = loaded.params, loaded.params.config
    taps = Recorder("text.layer.0.in", *_patterns(config.layers), keep=_kept)
    run = how._replace(taps=taps, logits="none")
    if images is None:
        forward(params, [ids], run)
    else:
        forward_images(params, images, [ids], run)
    streams = [taps.values["text.layer.0.in"], *(taps.values[f"text.layer.{i}.out"] for i in range(config.layers))]
    lens = logit_lens(params, np.stack(streams), NEXT, how.ops, progress)
    attention = [taps.values[f"text.layer.{i}.attn.probs"] for i in range(config.layers)]
    ranges = [taps.values[f"text.layer.{i}.attn.visible"] for i in range(config.layers)]
    write = tokenizer.pieces if tokenizer else lambda ids: [str(token) for token in ids]
    facts = _model(loaded, how) | _tokens(loaded, ids, write, images, photos) | _predictions(lens, write)
    facts["norms"] = {"stream": [_round(np.linalg.norm(x, axis=-1)) for x in streams]} | {
        name.split(".")[0]: [_round(taps.values[f"text.layer.{i}.{name}"]) for i in range(config.layers)]
        for name in ADDED
    }
    return Explored(facts, attention, ranges)


def _patterns(layers: int) -> list[str]:
    names = ("out", "attn.probs", "attn.visible", *ADDED)
    return [f"text.layer.{i}.{name}" for i in range(layers) for name in names]


def _kept(name: str, value: np.ndarray) -> np.ndarray:
    """Keep the length of what a half block adds, of everything else the values of the only row."""
    return np.linalg.norm(value[0], axis=-1) if name.endswith(ADDED) else np.array(value[0])


def _model(loaded, how: How) -> dict[str, Any]:
    c = loaded.params.config
    return {
        "weights": loaded.name,
        "dtype": np.dtype(how.dtype).name,
        "layers": c.layers,
        "heads": c.query_heads,
        "kv_heads": c.kv_heads,
        "window": c.window,
        "global": [i for i in range(c.layers) if c.is_global(i)],
    }


def _tokens(loaded, ids, write, images: Images | None, photos: Sequence[Photo]) -> dict[str, Any]:
    """List the tokens' texts; of images each view, with the first of its soft tokens."""
    config = loaded.params.config
    count = images.vision.config.soft_tokens if images else 1
    soft = soft_places([ids], config, count)[0] if images else np.zeros(len(ids), bool)
    texts = ["" if s else write([token])[0] for token, s in zip(ids, soft, strict=True)]
    views = []
    if images:
        firsts = np.flatnonzero(soft)[::count].tolist()
        whose = [(number, box) for number, photo in enumerate(photos) for box in range(-1, len(photo.boxes))]
        whose = whose or [(-1, -1)] * len(firsts)
        levels = ((images.pixels.transpose(0, 2, 3, 1) + 1) * 127.5).round().clip(0, 255).astype(np.uint8)
        for first, (number, box), view in zip(firsts, whose, levels, strict=True):
            views.append({"first": first, "count": count, "photo": number, "box": box, "src": _jpeg(view)})
    pictures = [
        {
            "src": _jpeg(photo.image),
            "width": photo.image.shape[1],
            "height": photo.image.shape[0],
            "boxes": photo.boxes.tolist(),
        }
        for photo in photos
    ]
    return {"ids": [int(token) for token in ids], "texts": texts, "views": views, "photos": pictures}


def _predictions(lens: Lens, write) -> dict[str, Any]:
    """List predictions of every depth; each distinct token's text once."""
    ids, probs = lens.ids[:, :, :TOP], lens.probs[:, :, :TOP]
    known = np.union1d(ids, lens.ids[-1])
    return {
        "lens": {"ids": ids.tolist(), "probs": [[_round(token) for token in depth] for depth in probs]},
        "next": {"ids": lens.ids[-1].tolist(), "probs": [_round(token) for token in lens.probs[-1]]},
        "pieces": dict(zip(map(str, known.tolist()), write(known.tolist()), strict=True)),
    }


def _round(values: np.ndarray) -> list[float]:
    return [float(f"{value:.5g}") for value in values.tolist()]


def _jpeg(image: np.ndarray) -> str:
    """Return a picture as a data address, at most so many pixels wide or high."""
    from PIL import Image

    picture = Image.fromarray(image)
    picture.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def packed(explored: Explored, room: int) -> dict[str, Any]:
    """Return the page's data, at most so many bytes of JSON.

    Attention is stored as p in steps of 2^-16; where that is too large as its root in 255 steps, and then of fewer
    layers, evenly spread and always the last. Of long prompts the lens has fewer tokens at each depth.

    Args:
        explored: what is to be shown.
        room: bytes.

    Returns:
        The facts; `attention`: {"layers": which, "bits": 16 or 8, "data": of each layer base64 of zlib of numbers, head
        after head, query by query, what each sees}; `ranges`: what each query sees, for each kind of layer, and which
        kind each is of.

    Raises:
        BadInput: there is no room for the facts.
    """
    layers = len(explored.attention)
    ranges = [one.reshape(-1).tolist() for one in explored.ranges]
    kinds = sorted({tuple(one) for one in ranges})
    facts: dict[str, Any] = explored.facts | {
        "ranges": {"kinds": kinds, "of": [kinds.index(tuple(one)) for one in ranges]}
    }
    left = 0
    for top in (TOP, 3, 1):
        facts["lens"] = {
            name: [[x[:top] for x in row] for row in explored.facts["lens"][name]] for name in ("ids", "probs")
        }
        left = room - len(as_json(facts).encode()) - 200 - 4 * layers
        if left >= room // 3:
            break
    if left < 0:
        raise wanted("page", "explore", f"at most {room} bytes of data", room - left)
    bits, parts = 16, _pack(explored, 16)
    kept = list(range(layers))
    if sum(map(len, parts)) > left:
        bits, parts = 8, _pack(explored, 8)
        for count in range(layers, -1, -1):
            kept = np.unique(np.linspace(layers - 1, 0, count).round().astype(int)).tolist()
            if sum(len(parts[i]) for i in kept) <= left:
                break
    return facts | {"attention": {"layers": kept, "bits": bits, "data": [parts[i] for i in kept]}}


def _pack(explored: Explored, bits: int) -> list[str]:
    parts = []
    for probs, seen in zip(explored.attention, explored.ranges, strict=True):
        keys = np.arange(probs.shape[-1])
        flat = probs[:, (keys >= seen[:, :1]) & (keys < seen[:, 1:])].reshape(-1).astype(np.float64)
        numbers = (flat * 65535).round().astype("<u2") if bits == 16 else (np.sqrt(flat) * 255).round().astype("u1")
        parts.append(base64.b64encode(zlib.compress(numbers.tobytes(), 6)).decode())
    return parts
