"""Log-likelihoods: beginnings are computed once, and the answers are those of one pass per answer."""

import json
import random

import lm_eval
import pytest
import torch
from lm_eval.models.huggingface import HFLM
from transformers import AutoConfig, AutoModelForCausalLM

from cpt.errors import UserError
from cpt.evaluate.answers import Answers
from cpt.evaluate.attention import shares_prefixes
from cpt.evaluate.model import load_model
from cpt.evaluate.scorer import Scorer
from cpt.evaluate.tasks import DEFINITIONS, evaluate_task


def one_by_one(model, context, continuation):
    """The definition: a pass over context and continuation, and the sum over the continuation's tokens."""
    ids = torch.tensor([[*context, *continuation]])
    with torch.inference_mode():
        logits = model(input_ids=ids[:, :-1].to(model.device)).logits[0, len(context) - 1 :]
    logits = logits.cpu().log_softmax(-1)
    target = torch.tensor(continuation)
    value = logits[torch.arange(len(target)), target].sum().item()
    return value, bool((logits.argmax(-1) == target).all())


def make_requests(seed, lengths=(1, 2, 7)):
    """Questions whose answers may begin alike or have contexts that differ late, and one asked twice."""
    draw = random.Random(seed)
    requests = []
    for number in range(12):
        context = draw.choices(range(256), k=draw.randint(1, 60))
        beginning = draw.choices(range(256), k=number % 3)
        for _ in range(draw.choice([2, 4])):
            continuation = [*beginning, *draw.choices(range(256), k=draw.choice(lengths))]
            ending = draw.choices(range(256), k=3) if number % 4 == 3 else []
            requests.append((("context", str(len(requests))), [*context, *ending], continuation))
    requests.append((("context", "again"), *requests[0][1:]))
    draw.shuffle(requests)
    return requests


@pytest.mark.parametrize("lengths", [(1, 2, 7), (1,)])
def test_equals_one_pass_per_answer_at_any_batch_size(loaded, make_scorer, lengths):
    model, _ = loaded
    requests = make_requests(3, lengths)
    expected = [one_by_one(model, context, continuation) for _, context, continuation in requests]
    for batch_tokens in (1, 50, 200, 5_000):
        answers = make_scorer(batch_tokens)._loglikelihood_tokens(requests)
        assert [value for value, _ in answers] == pytest.approx([value for value, _ in expected], abs=1e-4)
        assert [greedy for _, greedy in answers] == [greedy for _, greedy in expected]


def test_models_that_cant_share_are_scored_one_by_one(loaded, make_scorer):
    model, _ = loaded
    scorer = make_scorer(100)
    scorer.model.set_attn_implementation("sdpa")
    scorer.shares = False
    requests = make_requests(4)
    answers = scorer._loglikelihood_tokens(requests)
    expected = [one_by_one(model, context, continuation)[0] for _, context, continuation in requests]
    assert [value for value, _ in answers] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("kind", "options", "shares"),
    [
        ("llama", {"num_key_value_heads": 2}, True),
        ("qwen3", {"num_key_value_heads": 2, "head_dim": 8}, True),
        ("gpt_neox", {}, True),
        ("mistral", {"sliding_window": 4}, False),
        ("bloom", {"n_head": 4, "n_layer": 2}, False),
    ],
)
def test_which_architectures_share_beginnings(kind, options, shares):
    shape = {"vocab_size": 99, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4}
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **{"num_hidden_layers": 2, **shape, **options})
    model = AutoModelForCausalLM.from_config(config).eval()
    for parameter in model.parameters():
        parameter.data.mul_(4)
    own = model.config._attn_implementation
    assert shares_prefixes(model) == shares
    assert shares or model.config._attn_implementation == own


@pytest.mark.parametrize("task", DEFINITIONS)
def test_agrees_with_lm_evals_own_model_on_every_item(loaded, make_scorer, benchmarks, task):
    model, tokenizer = loaded
    theirs = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=2, add_bos_token=False)
    theirs.tok_encode = make_scorer(64).tok_encode
    _, expected = evaluate_task(theirs, benchmarks, task, None, 0)
    _, samples = evaluate_task(make_scorer(64), benchmarks, task, None, 0)
    assert len(samples) == len(expected)
    for ours, other in zip(samples, expected, strict=True):
        assert ours["loglikelihoods"] == pytest.approx(other["loglikelihoods"], abs=1e-4)
        assert [ours[key] for key in ("item", "gold", "acc")] == [
            other[key] for key in ("item", "gold", "acc")
        ]


def test_lm_eval_finds_the_model_by_its_name(model_folder):
    arguments = {"pretrained": str(model_folder), "threads": 1, "batch_tokens": 64}
    scorer = lm_eval.api.registry.get_model("prefix-trees").create_from_arg_obj(arguments)
    assert isinstance(scorer, Scorer) and scorer.shares
    assert scorer._loglikelihood_tokens([(("", ""), [1, 2], [3])])[0][0] < 0


def test_greedy_answers_are_recognised(loaded, make_scorer):
    model, _ = loaded
    context, best = [5, 6, 7], []
    for _ in range(3):
        with torch.inference_mode():
            ids = torch.tensor([[*context, *best]], device=model.device)
            best.append(model(input_ids=ids).logits[0, -1].argmax().item())
    wrong = [*best[:2], (best[2] + 1) % 256]
    requests = [(("", "a"), context, best), (("", "b"), context, wrong)]
    scored = make_scorer(2)._loglikelihood_tokens(requests)
    assert [greedy for _, greedy in scored] == [True, False]


def test_bf16_differs_by_no_more_than_its_rounding(loaded, make_scorer):
    model, _ = loaded
    requests = make_requests(5)
    answers = make_scorer(100, dtype=torch.bfloat16)._loglikelihood_tokens(requests)
    for (value, _), (_, context, continuation) in zip(answers, requests, strict=True):
        assert value == pytest.approx(one_by_one(model, context, continuation)[0], rel=0.05, abs=0.3)


def test_a_context_that_is_too_long_is_cut_at_its_start(loaded, make_scorer):
    model, _ = loaded
    draw = random.Random(0)
    context, continuation = draw.choices(range(256), k=600), [1, 2, 3]
    scorer = make_scorer(1)
    ((value, _),) = scorer._loglikelihood_tokens([(("", ""), context, continuation)])
    # 512 tokens are fed: the last of the three is only predicted.
    assert value == pytest.approx(one_by_one(model, context[-510:], continuation)[0], rel=1e-5)
    with pytest.raises(
        UserError, match=r"answers: an answer of 513 tokens doesn't fit .* leave the task out of"
    ):
        scorer._loglikelihood_tokens([(("", ""), [1], list(range(256)) * 2 + [1])])


def test_bos_is_put_first_or_refused(loaded, make_scorer):
    _, tokenizer = loaded
    with pytest.raises(
        UserError, match=r"evaluate\.add_bos_token: true, but .* has no BOS token; set it to false"
    ):
        make_scorer(1, add_bos_token=True)
    assert make_scorer(1)._encode_pair("ab ", "c") == ([97, 98], [32, 99])
    tokenizer.bos_token = "<|endoftext|>"
    try:
        scorer = make_scorer(1, add_bos_token=True)
        assert scorer._encode_pair("ab", " c") == ([256, 97, 98], [32, 99])
        assert scorer.tok_encode("a", add_special_tokens=False) == [97]
    finally:
        tokenizer.bos_token = None


def test_special_strings_in_items_stay_text(model_folder, device):
    # A separate tokenizer: calls through transformers, in other tests, read such strings as tokens.
    model, tokenizer = load_model(model_folder, "float32", threads=1, device=device)
    assert Scorer(model, tokenizer, 1, False).tok_encode("<|endoftext|>") == list(b"<|endoftext|>")


def test_a_killed_scoring_asks_only_for_the_rest_and_ends_with_the_same_bytes(make_scorer, tmp_path):
    requests = make_requests(6)
    whole = make_scorer(80)._loglikelihood_tokens(requests)
    killed, path = make_scorer(80), tmp_path / "answers.jsonl"
    killed.answers, score = Answers(path), killed._score
    calls = []

    def dying(row, questions, stem):
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append(len(questions))
        return score(row, questions, stem)

    killed._score = dying
    with pytest.raises(KeyboardInterrupt):
        killed._loglikelihood_tokens(requests)
    with path.open("a") as file:
        file.write('\n["0123", [[-1.5, fal')  # the kill came in mid-line
    second = make_scorer(80)
    second.answers, score = Answers(path), second._score
    later_calls = []
    second._score = lambda row, questions, stem: (
        later_calls.append(len(questions)) or score(row, questions, stem)
    )
    assert second._loglikelihood_tokens(requests) == whole  # to the bit
    assert len(calls) == 3 and sum(calls) + sum(later_calls) == len(requests)
    third = make_scorer(80)
    third.answers, third._score = Answers(path), None
    assert third._loglikelihood_tokens(requests) == whole
    assert all(json.loads(line) for line in path.read_text().splitlines() if line.endswith("]"))
