"""Log-likelihoods: all answers of a question in one row, equal to one pass per answer."""

import random

import pytest
import torch

from cpt.errors import UserError
from cpt.evaluate.scorer import Scorer


def one_by_one(model, context, continuation):
    """The definition: a pass over context and continuation, and the sum over the continuation's tokens."""
    ids = torch.tensor([[*context, *continuation]])
    with torch.inference_mode():
        logits = model(input_ids=ids[:, :-1]).logits[0, len(context) - 1 :].log_softmax(-1)
    target = torch.tensor(continuation)
    value = logits[torch.arange(len(target)), target].sum().item()
    return value, bool((logits.argmax(-1) == target).all())


def make_requests(seed, lengths=(1, 2, 7)):
    draw = random.Random(seed)
    made = []
    for _ in range(9):
        context = draw.choices(range(256), k=draw.randint(1, 60))
        for _ in range(draw.choice([2, 4])):
            continuation = draw.choices(range(256), k=draw.choice(lengths))
            made.append((("context", str(len(made))), context, continuation))
    draw.shuffle(made)
    return made


@pytest.mark.parametrize("lengths", [(1, 2, 7), (1,)])
@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_equals_one_pass_per_answer_at_any_batch_size(loaded, batch_size, lengths):
    model, tokenizer = loaded
    requests = make_requests(3, lengths)
    found = Scorer(model, tokenizer, batch_size, False, "test")._loglikelihood_tokens(requests)
    expected = [one_by_one(model, context, continuation) for _, context, continuation in requests]
    assert [value for value, _ in found] == pytest.approx([value for value, _ in expected], rel=1e-5)
    assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]


def test_greedy_answers_are_recognised(loaded):
    model, tokenizer = loaded
    context, best = [5, 6, 7], []
    for _ in range(3):
        with torch.inference_mode():
            best.append(model(input_ids=torch.tensor([[*context, *best]])).logits[0, -1].argmax().item())
    wrong = [*best[:2], (best[2] + 1) % 256]
    requests = [(("", "a"), context, best), (("", "b"), context, wrong)]
    scored = Scorer(model, tokenizer, 2, False, "test")._loglikelihood_tokens(requests)
    assert [greedy for _, greedy in scored] == [True, False]


def test_a_context_that_is_too_long_is_cut_at_its_start(loaded):
    model, tokenizer = loaded
    draw = random.Random(0)
    context, continuation = draw.choices(range(256), k=600), [1, 2, 3]
    scorer = Scorer(model, tokenizer, 1, False, "test")
    ((value, _),) = scorer._loglikelihood_tokens([(("", ""), context, continuation)])
    # 512 tokens are fed: the last of the three is only predicted.
    assert value == pytest.approx(one_by_one(model, context[-510:], continuation)[0], rel=1e-5)
    with pytest.raises(UserError, match="answer of 513 tokens doesn't fit"):
        scorer._loglikelihood_tokens([(("", ""), [1], list(range(256)) * 2 + [1])])


def test_bos_is_put_first_or_refused(loaded):
    model, tokenizer = loaded
    with pytest.raises(UserError, match=r"evaluate\.add_bos_token: true, but .* has no BOS"):
        Scorer(model, tokenizer, 1, True, "test")
    assert Scorer(model, tokenizer, 1, False, "test")._encode_pair("ab ", "c") == ([97, 98], [32, 99])
    tokenizer.bos_token = "<|endoftext|>"
    try:
        scorer = Scorer(model, tokenizer, 1, True, "test")
        assert scorer._encode_pair("ab", " c") == ([256, 97, 98], [32, 99])
        assert scorer.tok_encode("a", add_special_tokens=False) == [97]
    finally:
        tokenizer.bos_token = None


def test_special_strings_in_items_stay_text(loaded):
    model, tokenizer = loaded
    assert Scorer(model, tokenizer, 1, False, "test").tok_encode("<|endoftext|>") == list(b"<|endoftext|>")
