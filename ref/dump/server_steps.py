"""Lists of log-probabilities as servers write them, read token by token."""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

from ref.errors import wanted
from ref.untrusted import integer_of, is_integer

LEAST = -9000.0  # vLLM writes -9999 for a probability of 0, SGLang and llama.cpp less: no values
BY_ID = "token_id:"  # vLLM's `return_tokens_as_token_ids`


class Token(NamedTuple):
    """A token as a server names it: by id, by its bytes, or only by its text."""

    id: int | None = None
    raw: bytes | None = None
    text: str = ""


class Step(NamedTuple):
    """What a server says of one token: which, and log-probabilities of it and of others in its place."""

    token: Token | None  # None: not said, as of the first of a prompt
    values: tuple[tuple[Token, float], ...]


def columns(found: dict[str, Any], where: object) -> list[Step]:
    """Read the lists of the completions endpoint."""
    tokens, chosen, top = found["tokens"], found.get("token_logprobs"), found.get("top_logprobs")
    for name, one in (("token_logprobs", chosen), ("top_logprobs", top)):
        if one is not None and (not isinstance(one, list) or len(one) != len(tokens)):
            raise wanted(name, where, f"{len(tokens)} entries, as tokens", shape_of(one))
    if chosen is None:
        raise wanted("logprobs", where, "token_logprobs beside tokens", list(found))
    steps = []
    for i, name in enumerate(tokens):
        values = [(_named(name, where), chosen[i]), *_pairs(top[i] if top else None, where)]
        steps.append(Step(_named(name, where), _values(values, where)))
    return steps


def _pairs(top: Any, where) -> Iterable[tuple[Token, Any]]:
    if top is None:
        return []
    if not isinstance(top, dict):
        raise wanted("top_logprobs", where, "an object of tokens", shape_of(top))
    return [(_named(name, where), value) for name, value in top.items()]


def _named(name: Any, where) -> Token:
    """Return a token that is named by a text, or by `token_id:818`."""
    if not isinstance(name, str):
        raise wanted("token", where, "a text", shape_of(name))
    number = integer_of(name[len(BY_ID) :]) if name.startswith(BY_ID) else None
    return Token(number, None, name)


def content(items: list, where: object, notes: list[str]) -> list[Step]:
    """Read the chat endpoint's list, which llama.cpp's server uses everywhere."""
    steps = []
    for item in items:
        if not isinstance(item, dict):
            raise wanted("log-probabilities", where, "an object per token", shape_of(item))
        if "probs" in item:  # llama.cpp before 2025
            probs = _objects(item["probs"], where)
            old = [(_named(one.get("tok_str"), where), _log(one, where, notes)) for one in probs]
            steps.append(Step(_named(item.get("content"), where), _values(old, where)))
            continue
        tops = next((item[key] for key in ("top_logprobs", "top_probs") if item.get(key) is not None), [])
        every = [item, *_objects(tops, where)]
        values = [(_of_item(one, where), _log(one, where, notes)) for one in every]
        steps.append(Step(values[0][0], _values(values, where)))
    return steps


def _objects(items: Any, where) -> list[dict[str, Any]]:
    if not isinstance(items, list) or not all(isinstance(one, dict) for one in items):
        raise wanted("log-probabilities", where, "a list of objects per token", shape_of(items))
    return items


def _log(item: dict[str, Any], where: object, notes: list[str]) -> Any:
    """Return an item's log-probability; of a probability its log."""
    if "logprob" in item:
        return item["logprob"]
    value = item.get("prob")
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise wanted("log-probabilities", where, "logprob, or prob from 0 to 1", list(item)[:6])
    note = "probabilities after the server's samplers: a temperature or a penalty would be seen as a mistake"
    if note not in notes:
        notes.append(note)
    return math.log(value) if value else -math.inf


def _of_item(item: dict[str, Any], where) -> Token:
    named = _named(item.get("token"), where)
    raw, number = item.get("bytes"), item.get("id")
    if isinstance(raw, list) and raw and all(is_integer(one, 0, 255) for one in raw):
        named = named._replace(raw=bytes(raw))
    return named._replace(id=count_of(number)) if count_of(number) is not None else named


def count_of(value: Any) -> int | None:
    """Return an integer of 0 or more; None of anything else."""
    return int(value) if is_integer(value) else None


def prompt_logprobs(found: Any, where: object) -> list[Step] | None:
    """Read vLLM's: the prompt's own token comes first in each object."""
    if found is None:
        return None
    if not isinstance(found, list):
        raise wanted("prompt_logprobs", where, "a list", shape_of(found))
    steps = []
    for item in found:
        if item is None:
            steps.append(Step(None, ()))
            continue
        if not isinstance(item, dict) or not item or not all(isinstance(one, dict) for one in item.values()):
            raise wanted("prompt_logprobs", where, "null, or an object of token ids, per token", shape_of(item))
        ids = [integer_of(name) for name in item]
        if None in ids:
            raise wanted("prompt_logprobs", where, "token ids as keys", list(item)[:3])
        values = [(Token(i), one.get("logprob")) for i, one in zip(ids, item.values(), strict=True)]
        steps.append(Step(values[0][0], _values(values, where)))
    return steps


def triples(chosen: Any, top: Any, side: str, where: object) -> list[Step]:
    """Read `[logprob, id, text]` of each token, and such lists of the most probable in its place."""
    if not isinstance(chosen, list) or (top is not None and (not isinstance(top, list) or len(top) != len(chosen))):
        raise wanted(f"{side}_top_logprobs", where, "as many as token_logprobs", shape_of(top or chosen))
    steps = []
    for i, one in enumerate(chosen):
        more = top[i] if top and top[i] is not None else []
        if not isinstance(more, list):
            raise wanted(f"{side}_top_logprobs", where, "null or a list per token", shape_of(more))
        several = [one, *more]
        for item in several:
            if not isinstance(item, list) or len(item) < 2 or not is_integer(item[1]):
                raise wanted(f"{side}_token_logprobs", where, "[logprob, id, text] per token", shape_of(item))
        steps.append(Step(Token(int(one[1])), _values([(Token(int(x[1])), x[0]) for x in several], where)))
    return steps


def _values(pairs: Iterable[tuple[Token, Any]], where) -> tuple[tuple[Token, float], ...]:
    """Check log-probabilities; those that are null or stand for 0 are left out, and each token comes once."""
    out: dict[Token, float] = {}
    for token, value in pairs:
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or value > 1e-6:
            raise wanted("log-probability", where, "a number of at most 0", value)
        if value > LEAST:
            out.setdefault(token, float(value))
    return tuple(out.items())


def ids_of(found: Any, where: object) -> list[int] | None:
    """Read a list of token ids; None where there is none."""
    if found is None:
        return None
    if not isinstance(found, list) or not all(is_integer(one) for one in found):
        raise wanted("token ids", where, "a list of integers", shape_of(found))
    return [int(one) for one in found]


def shape_of(value: Any) -> str:
    """Say what a value is, for a refusal."""
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return f"an object of {', '.join(list(value)[:5])}" if isinstance(value, dict) else repr(value)
