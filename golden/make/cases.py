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


def one_pass(ids, left_pads=None, cached=0, keep=True, packed=None):
    """Describe a pass: `ids` [B, T] as lists; `keep` tells whether its taps go into the golden."""
    pads = left_pads or [0] * len(ids)
    return {"ids": ids, "left_pads": pads, "cached": cached, "keep": keep, "packed": packed}


def decode_steps(ids, prefill, keep_steps):
    """Describe cached decoding: a prefill, then one token at a time; only some steps are kept."""
    steps = [one_pass([ids[:prefill]], keep=False)]
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


sys.path.insert(0, str(ROOT))
