"""Answers as servers of models write them, made of log-probabilities: the shapes of each server's own source."""

import numpy as np


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Return log-probabilities, [T, V]."""
    wide = logits - logits.max(axis=1, keepdims=True)
    return wide - np.log(np.exp(wide).sum(axis=1, keepdims=True))


def top(row: np.ndarray, most: int, also: int | None = None) -> dict[int, float]:
    """Return the most probable tokens of one place, and one more, in the order of vLLM: that one first."""
    ids = [also] if also is not None else []
    ids += [int(i) for i in np.argsort(-row)[:most] if int(i) not in ids]
    return {i: float(row[i]) for i in ids}


def entry(i: int, value: float) -> dict:
    """Return one of vLLM's prompt_logprobs."""
    return {"logprob": value, "rank": 1, "decoded_token": f"t{i}"}


def vllm(logits: np.ndarray, ids: list[int], generated: int, most: int = 5, with_ids: bool = True) -> dict:
    """Return vLLM's completion with prompt_logprobs; the last tokens are those that it generated."""
    values, prompt = log_softmax(logits), len(ids) - generated
    places = [None] + [top(values[i - 1], most, ids[i]) for i in range(1, len(ids))]
    said = [None if one is None else {str(i): entry(i, x) for i, x in one.items()} for one in places]
    outputs = places[prompt:]
    logprobs = {
        "text_offset": list(range(generated)),
        "tokens": [f"token_id:{i}" for i in ids[prompt:]],
        "token_logprobs": [one[i] for one, i in zip(outputs, ids[prompt:], strict=True)],
        "top_logprobs": [{f"token_id:{i}": x for i, x in one.items()} for one in outputs],
    }
    choice = {"index": 0, "text": "...", "logprobs": logprobs if generated else None, "prompt_logprobs": said[:prompt]}
    if with_ids:
        choice |= {"token_ids": ids[prompt:], "prompt_token_ids": ids[:prompt]}
    usage = {"prompt_tokens": prompt, "completion_tokens": generated, "total_tokens": len(ids)}
    return {"id": "cmpl-1", "object": "text_completion", "model": "m", "choices": [choice], "usage": usage}


def chat(logits: np.ndarray, ids: list[int], generated: int, names, most: int = 5) -> dict:
    """Return the chat endpoint's answer: tokens by their text and bytes; the prompt is not repeated."""
    values, prompt = log_softmax(logits), len(ids) - generated

    def item(i: int, x: float) -> dict:
        return {"token": names(i), "logprob": x, "bytes": list(names(i).encode())}

    content = []
    for place in range(prompt, len(ids)):
        row = top(values[place - 1], most)
        content.append(item(ids[place], float(values[place - 1, ids[place]])))
        content[-1]["top_logprobs"] = [item(i, x) for i, x in row.items()]
    message = {"role": "assistant", "content": "".join(names(i) for i in ids[prompt:])}
    choice = {"index": 0, "message": message, "logprobs": {"content": content}, "finish_reason": "length"}
    usage = {"prompt_tokens": prompt, "completion_tokens": generated, "total_tokens": len(ids)}
    return {"id": "chatcmpl-1", "object": "chat.completion", "choices": [choice], "usage": usage}


def llama_cpp(logits: np.ndarray, ids: list[int], generated: int, most: int = 5) -> dict:
    """Return what llama.cpp's server answers to /completion with n_probs."""
    values, prompt = log_softmax(logits), len(ids) - generated

    def item(i: int, x: float) -> dict:
        return {"id": i, "token": f"t{i}", "bytes": list(f"t{i}".encode()), "logprob": x}

    rows = []
    for place in range(prompt, len(ids)):
        tops = [item(i, x) for i, x in top(values[place - 1], most).items()]
        rows.append(item(ids[place], float(values[place - 1, ids[place]])) | {"top_logprobs": tops})
    count = {"tokens_predicted": generated, "tokens_evaluated": prompt}
    return {
        "index": 0,
        "content": "...",
        "tokens": ids[prompt:],
        "completion_probabilities": rows,
        "stop": True,
    } | count


def sglang(logits: np.ndarray, ids: list[int], generated: int, most: int = 5, start: int = 0) -> dict:
    """Return what SGLang answers to /generate with return_logprob."""
    values, prompt = log_softmax(logits), len(ids) - generated
    chosen = [[None if i == 0 else float(values[i - 1, ids[i]]), ids[i], None] for i in range(len(ids))]
    tops = [None] + [[[x, i, None] for i, x in top(values[at - 1], most).items()] for at in range(1, len(ids))]
    info = {"prompt_tokens": prompt, "completion_tokens": generated}
    info |= {"input_token_logprobs": chosen[start:prompt], "input_top_logprobs": tops[start:prompt]}
    info |= {"output_token_logprobs": chosen[prompt:], "output_top_logprobs": tops[prompt:]}
    return {"text": "...", "output_ids": ids[prompt:], "meta_info": info}
