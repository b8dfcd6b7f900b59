"""Which ids the tokens of a server's answer are, and which log-probabilities follow from which tokens."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ref.config import BOS
from ref.dump.claims import check_same_ids, check_vocabulary
from ref.dump.read_server_json import ServerAnswer
from ref.dump.server_steps import Step, Token
from ref.errors import wanted

UNKNOWN = "\ufffd"  # what a server writes for bytes that are no whole character


class Followed(NamedTuple):
    """What a server says, by ids: the tokens that the model was given, and what it said after which of them."""

    ids: list[int]  # of the prompt and of what was generated, but for its last
    rows: list[int]  # tokens after which something is said
    values: list[dict[int, float]]  # of each row: token id -> log-probability; of a text alone its one token -> 0
    greedy: bool  # there are no log-probabilities: the tokens are what the model chose
    prompt: int  # how many of the ids are the prompt
    notes: list[str]


class _Names:
    """Finds ids of tokens that are named by their bytes or text; the vocabulary is listed when it is first needed."""

    def __init__(self, tokenizer: Callable[[], Any], where: str):
        self.tokenizer, self.where = tokenizer, where
        self.by_bytes: dict[bytes, int] = {}
        self.lost = 0

    def find(self, token: Token) -> int | None:
        """Return a token's id; None where its name is of no single token."""
        if token.id is not None:
            return token.id
        if not self.by_bytes:
            self.by_bytes = self._listed()
        if UNKNOWN in token.text and token.raw is None:
            return None
        return self.by_bytes.get(token.text.encode() if token.raw is None else token.raw)

    def _listed(self) -> dict[bytes, int]:
        tokenizer, found = self.tokenizer(), {}
        for number, piece in enumerate(tokenizer.pieces(range(tokenizer.vocabulary))):
            raw = tokenizer.bytes_of(number)
            if raw not in found or not piece.startswith("<0x"):  # a byte has a token of its own beside its letter's
                found[raw] = number
        return found

    def chosen(self, step: Step, place: str) -> int:
        """Return the id of a token that the model was given or chose.

        Raises:
            BadInput: it is not named, or no token of the vocabulary.
        """
        number = None if step.token is None else self.find(step.token)
        if number is None:
            got = "none" if step.token is None else repr(step.token.text)
            raise wanted(f"{place}", self.where, "a token of Gemma 3's vocabulary, or its id", got)
        return number

    def values(self, step: Step) -> dict[int, float]:
        """Return a step's log-probabilities by id; those of tokens that cannot be told are left out, and counted."""
        out: dict[int, float] = {}
        for token, value in step.values:
            number = self.find(token)
            if number is None:
                self.lost += 1
            else:
                out.setdefault(number, value)
        return out


def followed(
    answer: ServerAnswer, prompt: Sequence[int] | None, tokenizer: Callable[[], Any], vocabulary: int
) -> Followed:
    """Match a server's tokens with ids.

    Args:
        answer: from `ref.dump.read_server_json`.
        prompt: ids of the prompt; None takes the server's.
        tokenizer: returns the weights' tokenizer; called only where tokens have no ids.
        vocabulary: V.

    Returns:
        What is said after which token.

    Raises:
        BadInput: no prompt, other ids than its, fewer log-probabilities than tokens, or a token that is none of the
            vocabulary.
    """
    names = _Names(tokenizer, answer.where)
    notes = list(answer.notes)
    ids = _prompt_ids(answer, prompt, names, notes)
    rows, values = _of_prompt(answer, ids, names)
    output = _output_ids(answer, names)
    greedy = not rows and not answer.output
    if greedy:
        output = output or tokenizer().encode(answer.text, bos=False)
        values = [{number: 0.0} for number in output]
    else:
        values += [names.values(step) for step in answer.output]
    rows += range(len(ids) - 1, len(ids) - 1 + len(output))
    every = [*ids, *output]
    check_vocabulary(every, [], 0, vocabulary, answer.where)
    for number in {number for one in values for number in one if number >= vocabulary}:
        raise wanted("token id", answer.where, f"0 <= id < {vocabulary}", number)
    if names.lost:
        notes.append(f"{names.lost} log-probabilities are of tokens that their text does not tell, and are left out")
    if not any(values):
        raise wanted("log-probabilities", answer.where, "at least one", "none")
    return Followed(every[: max(rows) + 1], rows, values, greedy, len(ids), notes)


def _prompt_ids(answer: ServerAnswer, given: Sequence[int] | None, names: _Names, notes: list[str]) -> list[int]:
    if given is not None and answer.prompt_ids is not None:
        check_same_ids(list(given), answer.prompt_ids, answer.where)
    ids = given if given is not None else answer.prompt_ids
    if ids is not None:
        return list(ids)
    if not answer.prompt:
        raise wanted("prompt", answer.where, "--ids or --prompt: this server does not repeat it", "neither")
    first, *rest = answer.prompt
    if first.token is None:
        notes.append(f"the first token of the prompt is not said: taken to be BOS (id {BOS})")
    start = BOS if first.token is None else names.chosen(first, "token 0 of the prompt")
    return [start, *(names.chosen(step, f"token {i + 1} of the prompt") for i, step in enumerate(rest))]


def _of_prompt(answer: ServerAnswer, ids: list[int], names: _Names) -> tuple[list[int], list[dict[int, float]]]:
    """Return what is said of the prompt's own tokens: after which of them, and what."""
    steps = answer.prompt or []
    missing = len(ids) - len(steps)
    # SGLang may begin later (`logprob_start_len`)
    if steps and (missing < 0 or (missing > 0 and answer.server != "SGLang")):
        raise wanted("log-probabilities of the prompt", answer.where, f"{len(ids)}, as it has tokens", len(steps))
    rows, values = [], []
    for place, step in enumerate(steps, missing):
        number = None if step.token is None else names.find(step.token)
        if number is not None and number != ids[place]:
            raise wanted(f"token {place} of the prompt", answer.where, f"id {ids[place]}, as in its ids", number)
        if place > 0 and step.values:
            rows.append(place - 1)
            values.append(names.values(step))
    return rows, values


def _output_ids(answer: ServerAnswer, names: _Names) -> list[int]:
    """Return ids of what was generated; where the server gives them beside its tokens both must agree."""
    given = answer.output_ids
    if given is None:
        return [names.chosen(step, f"token {i} of the output") for i, step in enumerate(answer.output)]
    if answer.output and len(given) != len(answer.output):
        raise wanted("token ids", answer.where, f"{len(answer.output)}, as there are log-probabilities", len(given))
    for place, (number, step) in enumerate(zip(given, answer.output, strict=False)):
        told = None if step.token is None else names.find(step.token)
        if told is not None and told != number:
            raise wanted(f"token {place} of the output", answer.where, f"id {number}, as in its ids", told)
    return given
