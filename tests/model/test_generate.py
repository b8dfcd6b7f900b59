"""Generation on TINY: greedy is the arg-max of full forwards, rows do not know of each other, seeds repeat."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.strategies import seeds
from support.tiny import BOTH, TINY, logits, params, random_ids

from ref.config import EOS
from ref.errors import BadInput
from ref.model.generate import Sampling, check_sampling, generate
from ref.model.text import How
from ref.ops import DEFINITION, KERNEL

OPS = pytest.mark.parametrize("ops", BOTH.values(), ids=BOTH)
FEW = settings(max_examples=8)
GREEDY = Sampling(greedy=True)


def rows_of(prompts, steps, sampling=GREEDY, stop=(), ops=KERNEL):
    """Generate in float64 and return the new ids of each row, None after its end."""
    made = generate(params(), prompts, steps, sampling, stop, How(ops=ops, dtype=np.float64))
    return [list(row) for row in zip(*made, strict=True)]


def prompt_lists(seed, lengths):
    return [random_ids(seed + row, 1, length)[0].tolist() for row, length in enumerate(lengths)]


@OPS
@FEW
@given(seed=seeds, length=st.integers(1, 12))
def test_greedy_is_the_arg_max_of_a_full_forward_at_every_step(ops, seed, length):
    [prompt] = prompt_lists(seed, [length])
    ids = list(prompt)
    for _ in range(9):
        ids.append(int(logits([ids], ops)[0, -1].argmax()))
    assert rows_of([prompt], 9, ops=ops) == [ids[length:]]


@OPS
@FEW
@given(seed=seeds, lengths=st.lists(st.integers(1, 14), min_size=2, max_size=4), greedy=st.booleans())
def test_a_batch_equals_its_rows_alone(ops, seed, lengths, greedy):
    sampling = Sampling(greedy=greedy, seed=seed)
    prompts = prompt_lists(seed, lengths)
    together = rows_of(prompts, 8, sampling, ops=ops)
    assert together[:1] == rows_of(prompts[:1], 8, sampling, ops=ops)
    if greedy:  # a row that samples draws from the generator of its place in the batch
        assert together == [rows_of([prompt], 8, ops=ops)[0] for prompt in prompts]


def test_definition_and_kernel_choose_the_same_tokens():
    prompts = prompt_lists(3, [4, 9, 1])
    for sampling in (GREEDY, Sampling(seed=5), Sampling(temperature=0.7, top_k=0, top_p=0.5)):
        assert rows_of(prompts, 8, sampling, ops=KERNEL) == rows_of(prompts, 8, sampling, ops=DEFINITION)


def test_a_stop_id_is_yielded_and_ends_its_row_only():
    prompts = prompt_lists(0, [5, 3])
    free = rows_of(prompts, 10)
    stop = next(token for token in free[0] if token not in free[1])
    place = free[0].index(stop)
    assert rows_of(prompts, 10, stop=[stop]) == [free[0][: place + 1] + [None] * (9 - place), free[1]]
    alone = rows_of(prompts[:1], 10, stop=[stop, 96])
    assert alone == [free[0][: place + 1]]  # no step once every row has ended


def test_a_row_that_ended_does_not_disturb_the_others():
    prompts = prompt_lists(7, [2, 6, 4])
    free = rows_of(prompts, 12)
    for stop in range(TINY.vocabulary):
        if any(stop in row for row in free):
            rows = rows_of(prompts, 12, stop=[stop])
            for row, whole in zip(rows, free, strict=True):
                kept = whole[: whole.index(stop) + 1] if stop in whole else whole
                assert row == (kept + [None] * 12)[: len(row)]


def test_the_default_stop_is_eos():
    for seed in range(20):
        [free] = rows_of(prompt_lists(seed, [4]), 60)
        if EOS in free:
            break
    steps = list(generate(params(), prompt_lists(seed, [4]), 60, GREEDY, how=How(dtype=np.float64)))
    assert steps == [[token] for token in free[: free.index(EOS) + 1]]


@pytest.mark.parametrize("sampling", [Sampling(seed=11), Sampling(temperature=3.0, top_k=0, top_p=1.0, seed=4)])
def test_a_seed_repeats_and_another_does_not(sampling):
    prompts = prompt_lists(0, [5, 5])
    first = rows_of(prompts, 12, sampling)
    assert rows_of(prompts, 12, sampling) == first
    assert rows_of(prompts, 12, sampling._replace(seed=sampling.seed + 1)) != first
    same = rows_of([prompts[0], prompts[0]], 12, sampling)
    assert same[0] != same[1]  # rows draw from generators of their own


def test_a_row_draws_the_same_whatever_the_size_of_the_batch():
    [prompt] = prompt_lists(2, [6])
    sampling = Sampling(temperature=2.0, seed=9)
    alone = rows_of([prompt], 10, sampling)[0]
    for others in ([4], [9, 1, 3]):
        assert rows_of([prompt, *prompt_lists(50, others)], 10, sampling)[0] == alone


def test_sampling_to_the_limit_is_greedy():
    prompts = prompt_lists(1, [4, 8])
    greedy = rows_of(prompts, 8)
    for limit in (Sampling(top_k=1), Sampling(top_p=1e-9), Sampling(temperature=1e-6)):
        assert rows_of(prompts, 8, limit) == greedy


def test_steps_come_one_by_one_but_bad_input_is_refused_at_once():
    steps = generate(params(), [[1, 2]], 3, GREEDY, ())
    assert [len(step) for step in (next(steps), next(steps), next(steps))] == [1, 1, 1]
    with pytest.raises(StopIteration):
        next(steps)
    with pytest.raises(BadInput):
        generate(params(), [[1, -2]], 3)  # without asking for a step


SHORT = params()._replace(config=TINY._replace(max_positions=10))


@pytest.mark.parametrize(
    ("prompts", "steps", "says"),
    [
        ([], 1, "prompts and max-new-tokens: wanted at least one of each, got 0, 1"),
        ([[1]], 0, "wanted at least one of each, got 1, 0"),
        ([[1]], -3, "wanted at least one of each, got 1, -3"),
        ([[1], []], 1, "prompt 1: token ids: wanted at least one, got none"),
        ([[1], [2, 97]], 1, "prompt 1: token id: wanted 0 <= id < 97, got 97"),
        ([[-1]], 1, "prompt 0: token id: wanted 0 <= id < 97, got -1"),
        ([[1.0]], 1, "prompt 0: token ids: wanted integers"),
        ([[True]], 1, "prompt 0: token ids: wanted integers"),
        ([[10**20]], 1, "prompt 0: token ids: wanted integers"),
        ([[1] * 11], 1, "prompt 0: token ids: wanted at most the context, 10, got 11"),
        ([[1] * 6, [1]], 5, "prompt and new tokens: wanted at most 10, got 11"),
    ],
)
def test_prompts_that_cannot_be_continued_are_refused(prompts, steps, says):
    with pytest.raises(BadInput, match=says):
        generate(SHORT, prompts, steps)


def test_the_context_may_be_filled_to_its_end():
    assert len(list(generate(SHORT, [[1] * 6], 4, GREEDY, ()))) == 4


@pytest.mark.parametrize(
    ("sampling", "says"),
    [
        (Sampling(temperature=0.0), r"temperature: wanted a number > 0 \(or --greedy\), got 0.0"),
        (Sampling(temperature=-1.0), "temperature: .* got -1.0"),
        (Sampling(temperature=float("nan")), "temperature: .* got nan"),
        (Sampling(temperature=float("inf")), "temperature: .* got inf"),
        (Sampling(top_k=-1), r"top-k: wanted 0 \(all\) or more, got -1"),
        (Sampling(top_p=0.0), "top-p: wanted 0 < p <= 1, got 0.0"),
        (Sampling(top_p=2.0), "top-p: wanted 0 < p <= 1, got 2.0"),
        (Sampling(top_p=float("nan")), "top-p: wanted 0 < p <= 1, got nan"),
        (Sampling(seed=-1), "seed: wanted 0 or more, got -1"),
    ],
)
def test_sampling_settings_out_of_range_are_refused(sampling, says):
    with pytest.raises(BadInput, match=says):
        check_sampling(sampling)
    with pytest.raises(BadInput, match=says):
        generate(params(), [[1]], 1, sampling)


def test_sampling_settings_in_range_are_returned():
    for sampling in (Sampling(), GREEDY, Sampling(False, 0.1, 0, 1.0, 2**70)):
        assert check_sampling(sampling) is sampling
