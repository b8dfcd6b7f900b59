#!/usr/bin/env bash
# tokenizers 0.23.3: one incomplete character turns the whole run of byte tokens before it into U+FFFD.
#
# Guessed before running: bytes are decoded as by bytes.decode(errors="replace"): the whole characters, then one U+FFFD for
# the incomplete one. Seen: if a run of byte tokens is no valid UTF-8 to its end, each of its tokens becomes U+FFFD, the
# whole characters among them. In a streaming test an emoji that stood in the text turns into four signs at the next token,
# and comes back when its neighbour is complete.
#
# Needs Python 3.10 or newer and a package index. Fails if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q tokenizers==0.23.3
"$folder/venv/bin/python" - "$folder" <<'PY'
from tokenizers import decoders

decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
emoji, half = "\N{GRINNING FACE}".encode(), "\N{GRINNING FACE}".encode()[:2]


def tokens(data):
    return [f"<0x{byte:02X}>" for byte in data]


print("whole:", ascii(decoder.decode(tokens(emoji))), "and half of the next:", ascii(decoder.decode(tokens(emoji + half))))
print("Python:", ascii((emoji + half).decode(errors="replace")))
assert decoder.decode(tokens(emoji)) == "\N{GRINNING FACE}"
assert decoder.decode(tokens(emoji + half)) == "\ufffd" * 6, "whole characters stay now"
print("as found: the whole character is lost with the half one")
PY
