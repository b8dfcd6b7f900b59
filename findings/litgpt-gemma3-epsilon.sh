#!/usr/bin/env bash
# litgpt 0.5.13 runs Gemma 1, 2 and 3 with RMSNorm's epsilon at 1e-5; transformers' Gemma3TextConfig and Google's
# google-deepmind/gemma have 1e-6.
#
# Guessed before running: the rows of Gemma 3 set norm_eps to 1e-6, since LitGPT's tests hold its logits against
# transformers'. Seen: no row sets it, so that the default of the class, 1e-5, stands. It shows where rows are small: in the
# first layers of the 270M, and in weights as small as a test's own.
#
# Needs Python 3.10 or newer and a package index; installs torch. Fails if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 litgpt==0.5.13
"$folder/venv/bin/python" - <<'PY'
from litgpt import Config
from litgpt.config import configs

rows = {row["name"]: Config.from_name(row["name"]).norm_eps for row in configs if row["name"].startswith("Gemma-")}
print("litgpt:", rows)
assert rows and set(rows.values()) == {1e-5}, "some row sets its epsilon now"
print(f"as found: 1e-5 in all {len(rows)} rows of Gemma")
PY
