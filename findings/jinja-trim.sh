#!/usr/bin/env bash
# @huggingface/jinja 0.5.11 (npm) and jinja2 3.1.6 make different prompts of a message that begins with a byte order mark.
#
# Guessed before running: one template, one text. Seen: `trim`, which Gemma's chat template applies to every message, takes
# U+FEFF away in JavaScript and leaves it in Python; U+001C to U+001F it is the other way round. A message pasted from a
# file that was saved with a byte order mark has one token more in one of the two, and all its positions are shifted.
#
# Needs Node, npm, Python 3.10 or newer and their package indexes. Fails if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q jinja2==3.1.6
npm install --silent --no-fund --no-audit --prefix "$folder" @huggingface/jinja@0.5.11
cat > "$folder/render.mjs" <<'JS'
import { Template } from "@huggingface/jinja";
const template = new Template("{{ message | trim }}");
console.log(JSON.stringify(JSON.parse(process.argv[2]).map((message) => template.render({ message }))));
JS
"$folder/venv/bin/python" - "$folder" <<'PY'
import json
import subprocess
import sys

import jinja2

template = jinja2.Template("{{ message | trim }}")
messages = ["hello", " hello\n", "\u00a0hello", "\ufeffhello", "\x1fhello"]
command = ["node", f"{sys.argv[1]}/render.mjs", json.dumps(messages)]
by_node = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
by_python = [template.render(message=message) for message in messages]
for message, python, node in zip(messages, by_python, by_node):
    print(ascii(message), "Python:", ascii(python), "JavaScript:", ascii(node))
assert by_python[:3] == by_node[:3] == ["hello"] * 3
assert (by_python[3], by_node[3]) == ("\ufeffhello", "hello"), "the byte order mark is treated alike now"
assert (by_python[4], by_node[4]) == ("hello", "\x1fhello"), "U+001F is treated alike now"
print("as found: two ideas of white space")
PY
