"""Read the log-probabilities that servers of models answer with, as they write them.

    vLLM, OpenAI's        choices[0].logprobs {tokens, token_logprobs, top_logprobs}; with echo the prompt's too
    ... chat              choices[0].logprobs.content [{token, bytes, logprob, top_logprobs}]
    vLLM                  prompt_logprobs [null, {"818": {logprob, rank, decoded_token}}]; prompt_token_ids; token_ids
    llama.cpp's server    completion_probabilities [{id, token, bytes, logprob, top_logprobs}]; before 2025 {probs}
    SGLang                meta_info {input_token_logprobs [[logprob, id, text]], input_top_logprobs, output_...}

Each value is the log of a probability that the model gives a token after those before it.
"""

from pathlib import Path
from typing import Any, NamedTuple

from ref.dump.server_steps import Step, columns, content, count_of, ids_of, prompt_logprobs, shape_of, triples
from ref.errors import wanted
from ref.prompt.tokenizer import check_text
from ref.untrusted import map_file, parse_json, read_regular

WHAT = "server's JSON"
KEYS = ("choices", "completion_probabilities", "meta_info")
LONGEST = 16 * 2**20  # bytes of a text


class ServerAnswer(NamedTuple):
    """A server's answer."""

    where: str
    server: str  # vLLM or OpenAI-compatible, llama.cpp, SGLang
    prompt: list[Step] | None  # of each token of the prompt, or of its last ones
    output: list[Step]
    prompt_ids: list[int] | None
    output_ids: list[int] | None
    text: str  # what was generated
    notes: list[str]


def is_server_json(path: str | Path) -> bool:
    """Tell whether a file is a server's answer, and not another kind of JSON.

    Args:
        path: of any file.

    Raises:
        BadInput: a .json that cannot be read or parsed.
    """
    path = Path(path)
    if path.suffix.lower() != ".json" or not path.is_file():
        return False
    tree = parse_json(map_file(path)[:], path, "JSON")
    return any(key in tree for key in KEYS) or isinstance(tree.get("content"), str)


def read_greedy_text(path: str | Path) -> ServerAnswer:
    """Read a text that a model wrote greedily, and nothing else.

    Args:
        path: a file of UTF-8. A single newline at its end is the editor's.

    Raises:
        BadInput: it cannot be read, is no UTF-8, or empty.
    """
    path = Path(path)
    try:
        text = read_regular(path, "text", most=LONGEST).decode()
    except UnicodeDecodeError as error:
        raise wanted("text", path, "UTF-8", error) from None
    text = text.removesuffix("\n")
    if not text:
        raise wanted("text", path, "what the model wrote", "nothing")
    return ServerAnswer(str(path), "a text", None, [], None, None, check_text(text, path), [])


def read_server_json(path: str | Path) -> ServerAnswer:
    """Read a server's answer.

    Args:
        path: the JSON of one request, as the server sent it (not streamed).

    Returns:
        What it says of each token. Of several choices the first.

    Raises:
        BadInput: no such answer, none of the fields above, values of other types, or fewer than tokens.

    Source: vLLM 030ea52e `entrypoints/openai/completion/serving.py`, 2de4dc48 `logprobs.py`; llama.cpp 17f5f8a8
        `tools/server/server-task.cpp` `completion_token_output::probs_vector_to_json`; SGLang c60799d0
        `managers/tokenizer_manager.py` `detokenize_logprob_tokens`; OpenAI's openapi.yaml, `CreateCompletionResponse`.
    Differs: llama.cpp's `prob` and `probs` are after its samplers: a temperature or a penalty is in them.
    """
    path = Path(path)
    return answer_of(parse_json(map_file(path)[:], path, WHAT), path)


def answer_of(tree: dict[str, Any], where: object) -> ServerAnswer:
    """Read a server's answer out of its parsed JSON; see `read_server_json`.

    Args:
        tree: the object.
        where: for refusals.
    """
    if isinstance(tree.get("meta_info"), dict):
        return _sglang(tree, where)
    if "completion_probabilities" in tree:
        return _llama_cpp(tree, where)
    if isinstance(tree.get("content"), str) and tree["content"] and "choices" not in tree:  # without n_probs
        return ServerAnswer(
            str(where), "llama.cpp", None, [], None, ids_of(tree.get("tokens") or None, where), tree["content"], []
        )
    choices = tree.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise wanted(WHAT, where, f"one of {', '.join(KEYS)}", list(tree)[:5])
    return _openai(tree, choices, where)


def _openai(tree: dict[str, Any], choices: list, where) -> ServerAnswer:
    choice = choices[0]
    notes = [f"the first of {len(choices)} choices"] if len(choices) > 1 else []
    message = choice.get("message")
    text = choice.get("text") if message is None else (message.get("content") if isinstance(message, dict) else "")
    steps, said = _openai_steps(choice.get("logprobs"), where, notes)
    prompt = prompt_logprobs(_first(choice, tree, "prompt_logprobs"), where)
    ids, output_ids = (ids_of(_first(choice, tree, key), where) for key in ("prompt_token_ids", "token_ids"))
    usage: dict[str, Any] = tree["usage"] if isinstance(tree.get("usage"), dict) else {}
    count = count_of(usage.get("completion_tokens"))
    generated = count if count is not None else len(steps) if not output_ids else len(output_ids)
    if steps and len(steps) > generated:  # echo: the prompt stands before what was generated
        cut = len(steps) - generated
        prompt, steps = prompt or steps[:cut], steps[cut:]
    if said and len(steps) < generated:
        raise wanted("log-probabilities", where, f"{generated}, as completion_tokens", len(steps))
    if not steps and prompt is None and not text:
        raise wanted(WHAT, where, "logprobs, prompt_logprobs or a text", list(choice)[:8])
    return ServerAnswer(str(where), "OpenAI-compatible", prompt, steps, ids, output_ids, text or "", notes)


def _first(*objects_and_key: Any) -> Any:
    *objects, key = objects_and_key
    return next((one[key] for one in objects if one.get(key) is not None), None)


def _openai_steps(found: Any, where, notes: list[str]) -> tuple[list[Step], bool]:
    """Read `logprobs` of either endpoint: (steps, whether there were any)."""
    if found is None:
        return [], False
    if isinstance(found, dict) and isinstance(found.get("content"), list):
        return content(found["content"], where, notes), True
    if isinstance(found, dict) and isinstance(found.get("tokens"), list):
        return columns(found, where), True
    raise wanted("logprobs", where, "content, or tokens and token_logprobs", shape_of(found))


def _llama_cpp(tree: dict[str, Any], where) -> ServerAnswer:
    notes: list[str] = []
    found = tree["completion_probabilities"]
    if not isinstance(found, list) or not found:
        raise wanted("completion_probabilities", where, "a list (n_probs of 1 or more)", shape_of(found))
    steps, count = content(found, where, notes), count_of(tree.get("tokens_predicted"))
    if count is not None and len(steps) < count:
        raise wanted("log-probabilities", where, f"{count}, as tokens_predicted", len(steps))
    text = tree.get("content") if isinstance(tree.get("content"), str) else ""
    tokens = ids_of(tree.get("tokens") or None, where)
    return ServerAnswer(str(where), "llama.cpp", None, steps, None, tokens, str(text), notes)


def _sglang(tree: dict[str, Any], where) -> ServerAnswer:
    info = tree["meta_info"]
    sides = {}
    for side in ("input", "output"):
        chosen, top = info.get(f"{side}_token_logprobs"), info.get(f"{side}_top_logprobs")
        sides[side] = None if chosen is None else triples(chosen, top, side, where)
    if sides["output"] is None and sides["input"] is None:
        raise wanted("meta_info", where, "input_ or output_token_logprobs (return_logprob)", list(info)[:8])
    output, count = sides["output"] or [], count_of(info.get("completion_tokens"))
    if sides["output"] is not None and count is not None and len(output) < count:
        raise wanted("log-probabilities", where, f"{count}, as completion_tokens", len(output))
    text = tree.get("text") if isinstance(tree.get("text"), str) else ""
    ids = ids_of(tree.get("output_ids"), where)
    return ServerAnswer(str(where), "SGLang", sides["input"], output, None, ids, str(text), [])
