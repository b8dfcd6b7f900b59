"""The cases: what is run on which weights, and why."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

SCRIPTS = "Ich heiße Jürgen. Меня зовут Иван. 我叫小明。 私の名前は太郎です。 اسمي خالد. मेरा नाम राज है। 🙂 x = [1, 2]\n"
GREEDY = [
    "The capital of France is",
    "Once upon a time, there was a",
    "def fibonacci(n):\n",
    "Die Hauptstadt von Deutschland ist",
    "1, 2, 3, 4, 5,",
    "Water boils at a temperature of",
    "日本の首都は",
    "The three primary colors are",
]


def one_pass(ids, left_pads=None, cached=0, keep=True, packed=None, images=None):
    """Describe a pass: `ids` [B, T] as lists; `keep` tells whether its taps go into the golden; `images`: how many."""
    pads = left_pads or [0] * len(ids)
    return {"ids": ids, "left_pads": pads, "cached": cached, "keep": keep, "packed": packed, "images": images}


def decode_steps(ids, prefill, keep_steps, images=None):
    """Describe cached decoding: a prefill, then one token at a time; only some steps are kept."""
    steps = [one_pass([ids[:prefill]], keep=False, images=images)]
    steps += [one_pass([[ids[t]]], cached=t, keep=t in keep_steps) for t in range(prefill, len(ids))]
    return steps


def tiny_ids(count, seed):
    """Draw ids below 97 from a small linear congruential generator: the same in every language."""
    state, out = seed, []
    for _ in range(count):
        state = (state * 1_103_515_245 + 12_345) % 2**31
        out.append(state // 65_536 % 97)
    return out


def tiny_cases():
    """Return the cases on `tiny`: every branch of the model, all taps in full."""
    row, ids = tiny_ids(38, 1), tiny_ids(40, 2)
    return [
        {
            "id": "tiny/padded",
            "purpose": "Every branch: window 5 < T, global and local layers, K 3, G 4, RoPE factor 8, left pads.",
            "passes": [one_pass([row[:19], row[19:]], left_pads=[0, 4])],
        },
        {
            "id": "tiny/cached",
            "purpose": "Cached decoding from below the window to eight times round the ring of 5.",
            "passes": decode_steps(ids, 3, {3, 4, 5, 6, 11, 39}),
        },
        {
            "id": "tiny/packed",
            "purpose": "Two prompts packed into one row: positions restart and neither sees the other.",
            "passes": [one_pass([row[:17]], packed=[9, 8])],
        },
    ]


def with_images(layout, soft_tokens, vocabulary, seed):
    """Write ids as a layout says: a number is so many tokens of text, "I" an image, whose id is V."""
    count = sum(part for part in layout if part != "I")
    text, ids = tiny_ids(count, seed), []
    for part in layout:
        ids += [vocabulary] * soft_tokens if part == "I" else [text.pop() for _ in range(part)]
    return ids


def image_cases(c, v, name):
    """Return the cases with images on toy weights: text config, vision config and name of the weights."""
    rows = [with_images([3, "I", 2, "I", 4], v.soft_tokens, c.vocabulary, 3)]
    rows.append(with_images(["I", 6], v.soft_tokens, c.vocabulary, 4))
    pads = [0, len(rows[0]) - len(rows[1])]
    rows[1] = [0] * pads[1] + rows[1]
    ids = with_images([2, "I", 1, "I", 9], v.soft_tokens, c.vocabulary, 5)
    length = "shorter" if v.soft_tokens <= c.window else "longer"
    return [
        {
            "id": f"{name}/images",
            "purpose": f"Three images in two rows, one after left pads: blocks {length} than the window, every tap.",
            "passes": [one_pass(rows, left_pads=pads, images=3)],
        },
        {
            "id": f"{name}/images-cached",
            "purpose": "An image ends the prefill; then decoding until it has left the ring of 5.",
            "passes": decode_steps(ids, len(ids) - 9, {len(ids) - 9, len(ids) - 5, len(ids) - 1}, images=2),
        },
    ]


# 268 M values each: two of the 27 layers tell the same
SKIP = r"vision\.layer\.([1-9]|1[0-9]|2[0-5])\.attn\.(scores|probs)"


def full_width_cases(c, v, name):
    """Return the case at full width: the whole tower and projector, then one local and one global layer of the 4B."""
    ids = with_images([400, "I", 620], v.soft_tokens, c.vocabulary, 6)
    return [
        {
            "id": f"{name}/image",
            "purpose": "The full-size tower on one image of 896 x 896; a local and a global 4B layer past the window.",
            "passes": [one_pass([ids], images=1)],
            "skip": SKIP,
        }
    ]


def real_cases(tokenizer):
    """Return the cases on a real text model, whose ids come from our tokenizer (itself checked in golden/tokens)."""
    from ref.prompt.chat import encode_chat

    licence = tokenizer.encode((ROOT / "LICENSE").read_text())
    chat = encode_chat(
        tokenizer,
        [
            {"role": "system", "content": "Answer in one word."},
            {"role": "user", "content": "What is the capital of France?"},
        ],
    )
    return [
        {
            "id": "short",
            "purpose": "A short prompt: every operation, none of the window.",
            "passes": [one_pass([tokenizer.encode("The capital of France is")])],
        },
        {
            "id": "long",
            "purpose": "720 tokens, so that the window of 512 hides keys from the last 208 queries of local layers.",
            "passes": [one_pass([licence[:720]])],
        },
        {
            "id": "cached",
            "purpose": "Decoding across the wrap of the ring: keys 508 to 519 one at a time after a prefill of 508.",
            "passes": decode_steps(licence[:520], 508, {508, 511, 512, 519}),
        },
        {
            "id": "chat",
            "purpose": "Turn tokens and a system text, on pretrained weights.",
            "passes": [one_pass([chat])],
        },
        {
            "id": "scripts",
            "purpose": "Several scripts, an emoji, code, digits: rows from all over the embedding.",
            "passes": [one_pass([tokenizer.encode(SCRIPTS)])],
        },
    ]


def real_image_cases(tokenizer, v):
    """Return the case with an image on a released model that sees."""
    from ref.prompt.placeholders import encode_chat_with_images, user_turn

    ids = encode_chat_with_images(tokenizer, [user_turn("What is this?", 1)], [0], soft_tokens=v.soft_tokens)
    purpose = "One image and a question, as a turn, in the layout of transformers."
    return [{"id": "image", "purpose": purpose, "passes": [one_pass([ids], images=1)], "skip": SKIP}]


sys.path.insert(0, str(ROOT))
