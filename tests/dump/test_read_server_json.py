"""Servers' answers read as they are, by their ids; and what is refused of them, each in one line."""

import json

import numpy as np
import pytest
from support.server_json import chat, llama_cpp, log_softmax, sglang, vllm
from support.tiny_tokenizer import refused, train

from ref.dump.read_server_json import answer_of, is_server_json, read_greedy_text, read_server_json
from ref.dump.server_tokens import followed
from ref.prompt.tokenizer import Tokenizer

V, GENERATED = 97, 4
IDS = [2, *range(20, 31)]
LOGITS = 5 * np.random.default_rng(0).standard_normal((len(IDS), V)).astype(np.float32)
VALUES = log_softmax(LOGITS)


def no_tokenizer():
    raise AssertionError("tokens have ids here")


def read(tree, prompt=None, tokenizer=no_tokenizer, vocabulary=V):
    return followed(answer_of(tree, "answer.json"), prompt, tokenizer, vocabulary)


def check(said, rows):
    assert said.ids == IDS[: len(said.ids)]
    assert said.rows == rows
    for row, values in zip(said.rows, said.values, strict=True):
        assert values == pytest.approx({i: VALUES[row, i] for i in values})
        assert values
    assert not said.greedy


@pytest.mark.parametrize("generated", [0, GENERATED])
def test_vllm_with_prompt_logprobs(generated):
    said = read(vllm(LOGITS, IDS, generated))
    check(said, list(range(len(IDS) - 1)))
    assert all(len(one) >= 5 for one in said.values)


def test_vllm_without_ids_takes_the_prompts_own_tokens():
    said = read(vllm(LOGITS, IDS, GENERATED, with_ids=False))
    check(said, list(range(len(IDS) - 1)))
    assert "taken to be BOS" in said.notes[0]


def test_echo_holds_the_prompt_in_the_same_lists():
    tree = vllm(LOGITS, IDS, len(IDS) - 1, with_ids=False)
    one = tree["choices"][0]
    one["prompt_logprobs"] = None
    for key, first in (("tokens", "token_id:2"), ("token_logprobs", None), ("top_logprobs", None), ("text_offset", 0)):
        one["logprobs"][key].insert(0, first)
    tree["usage"]["completion_tokens"] = GENERATED
    check(read(tree), list(range(len(IDS) - 1)))


def test_llama_cpp():
    said = read(llama_cpp(LOGITS, IDS, GENERATED), IDS[:-GENERATED])
    check(said, list(range(len(IDS) - GENERATED - 1, len(IDS) - 1)))


def test_llama_cpp_before_2025_has_probabilities():
    tree = llama_cpp(LOGITS, IDS, 1)
    row = tree["completion_probabilities"][0]
    tops = row["top_logprobs"]
    probs = [{"tok_str": f"token_id:{one['id']}", "prob": float(np.exp(one["logprob"]))} for one in tops]
    tree["completion_probabilities"] = [{"content": f"token_id:{IDS[-1]}", "probs": probs}]
    said = read(tree, IDS[:-1])
    check(said, [len(IDS) - 2])
    assert "after the server's samplers" in said.notes[0]


@pytest.mark.parametrize("start", [0, 3])
def test_sglang(start):
    said = read(sglang(LOGITS, IDS, GENERATED, start=start), IDS[:-GENERATED])
    check(said, list(range(max(start - 1, 0), len(IDS) - 1)))


def test_tokens_by_their_bytes():
    tokenizer = Tokenizer(train())
    prompt = tokenizer.encode("the cat")
    out = tokenizer.encode(" sat on the mat", bos=False)
    ids = [*prompt, *out]
    logits = np.random.default_rng(1).standard_normal((len(ids), tokenizer.vocabulary)).astype(np.float32)
    letters = [i for i in range(tokenizer.vocabulary) if not tokenizer.pieces([i])[0].startswith("<0x")]
    logits[:, [i for i in range(tokenizer.vocabulary) if i not in letters]] -= 50  # bytes alone are no characters
    tree = chat(logits, ids, len(out), lambda i: tokenizer.bytes_of(i).decode(errors="replace"))
    said = read(tree, prompt, lambda: tokenizer, tokenizer.vocabulary)
    assert said.ids == ids[: len(said.ids)]
    values = log_softmax(logits)
    for row, one in zip(said.rows, said.values, strict=True):
        assert one == pytest.approx({i: values[row, i] for i in one}, abs=1e-6)
        assert len(one) >= 5


def test_probabilities_of_nothing_are_left_out():
    tree = vllm(LOGITS, IDS, 0)
    first = tree["choices"][0]["prompt_logprobs"][1]
    first["90"] = {"logprob": -9999.0, "rank": 97, "decoded_token": "x"}
    assert 90 not in read(tree).values[0]


def test_a_text_alone_is_greedy(tmp_path):
    tokenizer = Tokenizer(train())
    (tmp_path / "out.txt").write_text(" sat on the mat\n")
    said = followed(read_greedy_text(tmp_path / "out.txt"), [2, 5], lambda: tokenizer, tokenizer.vocabulary)
    assert said.greedy
    assert [next(iter(one)) for one in said.values] == tokenizer.encode(" sat on the mat", bos=False)
    assert said.rows[0] == 1


def broken(change, make=vllm, prompt=None):
    tree = make(LOGITS, IDS, GENERATED)
    change(tree)
    return tree, prompt


def choice(tree):
    return tree["choices"][0]


@pytest.mark.parametrize(
    ("make", "change", "prompt", "match"),
    [
        (vllm, lambda t: t.update(choices=[]), None, "wanted one of choices, completion_probabilities, meta_info"),
        (vllm, lambda t: choice(t).update(logprobs={"odd": 1}), None, "wanted content, or tokens and token_logprobs"),
        (vllm, lambda t: choice(t)["logprobs"]["token_logprobs"].pop(), None, "4 entries, as tokens, got a list of 3"),
        (vllm, lambda t: t["usage"].update(completion_tokens=6), None, "wanted 6, as completion_tokens, got 4"),
        (vllm, lambda t: choice(t)["prompt_logprobs"].pop(), None, "wanted 8, as it has tokens, got 7"),
        (vllm, lambda t: choice(t)["prompt_token_ids"].__setitem__(3, 9), None, "token 3 of the prompt: wanted id 9"),
        (vllm, lambda t: choice(t)["token_ids"].__setitem__(1, 9), None, "token 1 of the output: wanted id 9"),
        (vllm, lambda t: None, [2, 20, 21], "wanted 3 tokens, got 8"),
        (vllm, lambda t: choice(t)["prompt_logprobs"][2].update({"x": {"logprob": -1.0}}), None, "token ids as keys"),
        (sglang, lambda t: t["meta_info"]["output_top_logprobs"].__setitem__(0, True), [2], "null or a list per"),
        (vllm, lambda t: choice(t)["prompt_logprobs"][2].update({"5": {"logprob": 1.0}}), None, "at most 0, got 1.0"),
        (vllm, lambda t: choice(t)["prompt_logprobs"][2].update({"500": {"logprob": -1.0}}), None, "id < 97, got 500"),
        (llama_cpp, lambda t: None, None, "wanted --ids or --prompt"),
        (llama_cpp, lambda t: t["completion_probabilities"].pop(), IDS[:8], "wanted 4, as tokens_predicted, got 3"),
        (llama_cpp, lambda t: t.update(completion_probabilities=[]), IDS[:8], "n_probs of 1 or more"),
        (llama_cpp, lambda t: t["completion_probabilities"][0].pop("logprob"), IDS[:8], "logprob, or prob from 0 to 1"),
        (sglang, lambda t: t.update(meta_info={"id": 1}), IDS[:8], "return_logprob"),
        (sglang, lambda t: t["meta_info"]["output_token_logprobs"].__setitem__(0, [1]), IDS[:8], "id, text] per token"),
        (sglang, lambda t: t["meta_info"]["output_top_logprobs"].pop(), IDS[:8], "as many as token_logprobs"),
    ],
)  # fmt: skip
def test_what_is_refused(make, change, prompt, match):
    tree, prompt = broken(change, make, prompt)
    with refused(match.replace("[", r"\[").replace("]", r"\]").replace("(", r"\(").replace(")", r"\)")):
        read(tree, prompt)


def test_another_tokenisation_is_refused():
    tokenizer = Tokenizer(train())
    tree = chat(LOGITS, IDS, 1, lambda i: f"no such piece {i}")
    with refused("wanted a token of Gemma 3's vocabulary"):
        read(tree, IDS[:-1], lambda: tokenizer)


def test_files(tmp_path):
    path = tmp_path / "answer.json"
    path.write_text(json.dumps(vllm(LOGITS, IDS, GENERATED)))
    assert is_server_json(path)
    assert read_server_json(path).server == "OpenAI-compatible"
    path.write_text(json.dumps({"module_path": "model"}))
    assert not is_server_json(path)
    assert not is_server_json(tmp_path)
    path.write_text('data: {"choices": []}')
    with refused("wanted a JSON object"):
        is_server_json(path)
    (tmp_path / "empty.txt").write_text("\n")
    with refused("wanted what the model wrote"):
        read_greedy_text(tmp_path / "empty.txt")
