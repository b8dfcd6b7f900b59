"""Flags that several commands share, and what they mean."""

import argparse
import json
import math
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ref.errors import BadInput, wanted
from ref.untrusted import LARGEST, integer_of, read_regular

DTYPES = ("float32", "float64")


def weights_flags() -> argparse.ArgumentParser:
    """Declare --weights, --mmproj, --adapter, --held-as, --dtype, --threads."""
    parser = argparse.ArgumentParser(add_help=False)
    group = parser.add_argument_group("weights and arithmetic")
    group.add_argument(
        "--weights",
        default="270m",
        metavar="W",
        help="270m (the extra [weights]), a .gguf file, a Hugging Face folder, synthetic:SIZE[:SEED], tiny",
    )
    group.add_argument("--mmproj", metavar="FILE", help="the vision tower that goes with a .gguf file of text weights")
    group.add_argument("--adapter", metavar="DIR", help="a LoRA adapter of these weights, as PEFT saves it")
    group.add_argument(
        "--held-as",
        choices=("file", "memory", "float32", "bfloat16"),
        default="file",
        help="how weights lie: in the file, as there but copied to memory (tokens come sooner), or widened",
    )
    group.add_argument("--dtype", choices=DTYPES, default="float32", help="of the arithmetic; float64 is the truth run")
    group.add_argument("--threads", type=int, metavar="N", help="default: all cores")
    return parser


def text_flags() -> argparse.ArgumentParser:
    """Declare the prompt texts, --ids, --chat, --system, --forbid-control."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("text", nargs="*", help="prompt; several make a batch. BOS is added")
    group = parser.add_argument_group("prompt")
    group.add_argument("--ids", metavar="FILE_OR_LIST", help="token ids instead of text: 2,818,5279 or a file of them")
    group.add_argument("--chat", action="store_true", help="the text is a user's turn")
    group.add_argument("--system", metavar="TEXT", help="system text, folded into the user's turn (with --chat)")
    group.add_argument("--forbid-control", action="store_true", help="refuse text that spells control tokens")
    return parser


def json_flag() -> argparse.ArgumentParser:
    """Declare --json."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout, nothing else")
    return parser


def print_json(content: Any) -> None:
    """Print one JSON document; numbers that JSON has no word for become null."""
    print(json.dumps(finite(content), ensure_ascii=False, indent=1))


def finite(value: Any) -> Any:
    """Return JSON's own values: a number that JSON has no word for becomes null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    return [finite(item) for item in value] if isinstance(value, (list, tuple)) else value


def note(text: str) -> None:
    """Say something beside the result: on stderr, so that stdout stays the result."""
    print(text, file=sys.stderr)


def load_weights(args):
    """Resolve --weights, --mmproj, --adapter and --held-as, and set the threads that --threads asks for.

    With an adapter `file` and `memory` become `float32`: what it adds would else be added up again for each token.
    """
    from ref.weights.resolve import load

    set_threads(args.threads)
    if args.adapter is None:
        return load(args.weights, args.held_as, args.mmproj)
    from ref.weights.adapter import read_adapter, with_adapter
    from ref.weights.load import hold_as

    held = args.held_as if args.held_as in ("float32", "bfloat16") else "float32"
    loaded = with_adapter(load(args.weights, "file", args.mmproj), read_adapter(args.adapter))
    vision = hold_as(loaded.vision, held) if loaded.vision else None
    return loaded._replace(params=hold_as(loaded.params, held), vision=vision, held_as=held)


def set_threads(count: int | None) -> None:
    """Set Numba's and the BLAS libraries' threads.

    Raises:
        BadInput: fewer than 1 or more than there are cores.
    """
    import numba
    from threadpoolctl import threadpool_limits

    if count is None:
        return
    if not 1 <= count <= numba.config.NUMBA_NUM_THREADS:  # type: ignore[attr-defined]
        raise wanted("threads", "--threads", f"1 to {numba.config.NUMBA_NUM_THREADS}", count)  # type: ignore[attr-defined]
    numba.set_num_threads(count)
    threadpool_limits(count)


def run_settings(args):
    """Return the `How` that --dtype asks for."""
    import numpy as np

    from ref.model.text import How

    return How(dtype={"float32": np.float32, "float64": np.float64}[args.dtype])


def read_prompts(args, loaded, crops: Sequence[int] = ()) -> list[list[int]]:
    """Turn texts or --ids into token ids, one list a prompt; ids are to hold the soft tokens of images already.

    Args:
        args: the parsed command line.
        loaded: the weights.
        crops: of each image of the only prompt, how many crops are seen beside it.

    Raises:
        BadInput: neither or both given, unreadable ids, --system without --chat, text with NUL or lone surrogates.
    """
    if args.ids is not None and (args.text or args.chat or args.system):
        raise BadInput("prompt: wanted either text or --ids, got both")
    if args.ids is not None:
        return [read_ids(args.ids)]
    if not args.text and not crops:
        raise BadInput("prompt: wanted a text or --ids, got neither")
    if args.system and not args.chat:
        raise BadInput("--system: wanted --chat beside it, got none")
    soft_tokens = loaded.vision.config.soft_tokens if crops else 0
    return [encode_prompt(args, loaded.tokenizer(), text, crops, soft_tokens) for text in args.text or [""]]


def encode_prompt(args, tokenizer, text: str, crops: Sequence[int] = (), soft_tokens: int = 0) -> list[int]:
    """Encode one text as --chat, --system and --forbid-control say, with images if it has any.

    Args:
        args: the parsed command line.
        tokenizer: Gemma 3's.
        text: the prompt.
        crops: of each image, how many crops are seen beside it.
        soft_tokens: M, of each image and crop.
    """
    from ref.prompt.chat import encode_chat
    from ref.prompt.placeholders import encode_chat_with_images, encode_with_images, user_turn
    from ref.prompt.tokenizer import check_text

    check_text(text, "prompt")
    how = {"layout": args.image_layout or "transformers", "soft_tokens": soft_tokens} if crops else {}
    if not args.chat:
        control = "forbid" if args.forbid_control else "split"
        if crops:
            return encode_with_images(tokenizer, text, crops, control=control, **how)
        return tokenizer.encode(text, control=control)
    turns = [user_turn(text, len(crops)) if crops else {"role": "user", "content": text}]
    if args.system:
        turns.insert(0, {"role": "system", "content": check_text(args.system, "--system")})
    return encode_chat_with_images(tokenizer, turns, crops, **how) if crops else encode_chat(tokenizer, turns)


def read_ids(given: str) -> list[int]:
    """Read token ids from a comma list, or from a file that holds one (commas, spaces or lines; or a JSON list)."""
    where = "--ids"
    looks_like_list = given.replace(",", "").replace(" ", "").replace("-", "").isdigit()
    if not looks_like_list:
        given, where = _read_text(Path(given), where), given
    words = given.strip().strip("[]").replace(",", " ").split()
    ids = []
    for word in words:
        number = integer_of(word, least=-LARGEST)
        if number is None:
            spelt = re.fullmatch("-?[0-9]+", word)
            raise wanted("token id", where, "an integer below 2^63" if spelt else "an integer", word)
        ids.append(number)
    if not ids:
        raise wanted("token ids", where, "at least one", "none")
    return ids


LONGEST_IDS = 16 * 2**20


def _read_text(path: Path, where: str) -> str:
    """Read a small text file; a device or a pipe is refused, since it might never end."""
    want = "a comma list or a readable file"
    try:
        return read_regular(path, "token ids", where, want, LONGEST_IDS).decode()
    except UnicodeDecodeError:
        raise wanted("token ids", where, want, f"not UTF-8 text: {path}") from None
