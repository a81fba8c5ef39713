"""Greedy generation gives what transformers' own generate gives prompt by prompt, whatever the batch."""

import json

import pytest
import torch
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from cpt.errors import UserError
from cpt.evaluate import generation
from cpt.evaluate.generation import Generator, Request
from cpt.evaluate.growing import GrowingBatch, rows_can_join, rows_can_share

SIZE = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 300}
INNER = {"intermediate_size": 64, "max_position_embeddings": 128}
KINDS = {
    "llama": (LlamaForCausalLM, LlamaConfig(**SIZE, **INNER, num_key_value_heads=2)),
    "gpt2": (GPT2LMHeadModel, GPT2Config(n_embd=32, n_layer=3, n_head=4, vocab_size=300, n_positions=128)),
    "gpt_neox": (GPTNeoXForCausalLM, GPTNeoXConfig(**SIZE, **INNER)),
    "qwen3": (
        Qwen3ForCausalLM,
        Qwen3Config(
            **SIZE,
            **INNER,
            head_dim=8,
            num_key_value_heads=2,
            use_sliding_window=True,
            sliding_window=8,
            max_window_layers=1,
        ),
    ),
    "gemma3": (
        Gemma3ForCausalLM,
        Gemma3TextConfig(
            **SIZE, **INNER, head_dim=8, num_key_value_heads=2, sliding_window=8, sliding_window_pattern=2
        ),
    ),
}
NEW = 24


def random_model(kind):
    """A model whose next tokens depend on all tokens before, and that ends some answers early."""
    model_class, config = KINDS[kind]
    torch.manual_seed(0)
    model = model_class(config).eval()
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1 and "embed" not in name:
            parameter.data.mul_(6)
    model.generation_config.pad_token_id, model.generation_config.eos_token_id = 0, []
    endless = [theirs(model, prompt, NEW) for prompt in prompts(4)]
    model.generation_config.eos_token_id = [tokens[5 * number] for number, tokens in enumerate(endless)]
    return model


def prompts(n=13, longest=40):
    """Random prompts of many lengths."""
    torch.manual_seed(1)
    lengths = torch.randint(1, longest, (n,)).tolist()
    return [tuple(torch.randint(100, 256, (length,)).tolist()) for length in lengths]


def theirs(model, prompt, new):
    """New tokens of transformers' generate, without the one that ends them."""
    ids = torch.tensor([prompt])
    done = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=new)
    tokens = done[0, len(prompt) :].tolist()
    return tuple(tokens[:-1] if tokens[-1] in model.generation_config.eos_token_id else tokens)


@pytest.fixture(scope="module")
def tokenizer(loaded):
    """A tokenizer of bytes."""
    return loaded[1]


@pytest.mark.parametrize("kind", KINDS)
def test_any_batch_gives_what_transformers_gives_prompt_by_prompt(kind, tokenizer):
    model = random_model(kind)
    requests = [Request(prompt, NEW) for prompt in prompts()]
    assert rows_can_join(model)
    expected = [theirs(model, request.prompt, NEW) for request in requests]
    # Rows leave and join: answers differ in length.
    assert len({len(tokens) for tokens in expected}) > 3 and max(map(len, expected)) == NEW
    for size in (1, 3, 5, 16):
        completions = Generator(model, tokenizer, size).generate(requests)
        assert [completion.tokens for completion in completions] == expected, size
    assert [completion.ending for completion in completions] == [
        "limit" if len(tokens) == NEW else "eos" for tokens in expected
    ]


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gpt_neox", "gemma3"])
def test_a_beginning_of_all_prompts_is_read_once(kind, tokenizer, monkeypatch):
    model = random_model(kind)
    shared = rows_can_share(model)
    assert shared == (kind != "gemma3")  # its layers see windows
    examples = [tuple(range(100 + n, 160 + n)) for n in (0, 60)]
    few = [(*examples[n % 2], *prompt) for n, prompt in enumerate(prompts(12, longest=20))]
    few += [examples[0], *prompts(2), (*examples[0], *range(200, 220), 9)]
    token_counts, forward = [], GrowingBatch._forward
    monkeypatch.setattr(
        GrowingBatch,
        "_forward",
        lambda self, ids, *rest: token_counts.append(ids.numel()) or forward(self, ids, *rest),
    )
    expected = [theirs(model, prompt, 9) for prompt in few]
    for size in (1, 4, 16):
        token_counts.clear()
        completions = Generator(model, tokenizer, size).generate([Request(prompt, 9) for prompt in few])
        assert [completion.tokens for completion in completions] == expected, size
        if shared:  # examples twice, the rest with padding, and the answers
            assert sum(token_counts) < 2 * 60 + 60 + len(few) * (40 + 9)


def test_a_longrope_model_crosses_from_short_frequencies_to_long_ones(tokenizer):
    KINDS["phi3"] = (
        Phi3ForCausalLM,
        Phi3Config(
            **SIZE,
            **INNER,
            pad_token_id=0,
            original_max_position_embeddings=32,
            rope_parameters={
                "rope_type": "longrope",
                "rope_theta": 1e4,
                "short_factor": [1.0] * 4,
                "long_factor": [1.0, 2.0, 5.0, 9.0],
                "original_max_position_embeddings": 32,
            },
        ),
    )
    model = random_model("phi3")
    requests = [Request(prompt, NEW) for prompt in prompts(6)]
    completions = Generator(model, tokenizer, 4).generate(requests)
    assert any(len(prompt) <= 32 < len(prompt) + NEW for prompt, *_ in requests)
    for completion, request in zip(completions, requests, strict=True):
        sequence = list(request.prompt)  # from the whole sequence, token by token, without a cache
        for token in completion.tokens:
            assert model(input_ids=torch.tensor([sequence])).logits[0, -1].argmax() == token
            sequence.append(token)


def test_a_model_with_other_states_continues_one_prompt_at_a_time(tokenizer):
    torch.manual_seed(0)
    model = MambaForCausalLM(MambaConfig(hidden_size=16, num_hidden_layers=1, vocab_size=300, state_size=4))
    assert not rows_can_join(model)


def test_a_tie_in_the_batch_is_decided_by_the_sequence_alone(tokenizer, monkeypatch):
    """Two logits are almost equal, and rounding in the batch swaps their order."""
    model = random_model("llama")
    requests = [Request(prompt, 12) for prompt in prompts(6)]
    expected = [completion.tokens for completion in Generator(model, tokenizer, 1).generate(requests)]

    def swapped(batch, ids, mask, positions, cache):
        logits = forward(batch, ids, mask, positions, cache)
        best, tokens = logits.topk(2)
        return logits.scatter(1, tokens.flip(-1), best[:, 1:] + torch.tensor([[1e-6, 0.0]]))

    forward = generation.GrowingBatch._forward
    monkeypatch.setattr(generation.GrowingBatch, "_forward", swapped)
    completions = Generator(model, tokenizer, 4).generate(requests)
    assert [completion.tokens for completion in completions] == expected


def test_equal_logits_give_the_first_token(tokenizer):
    model = random_model("gpt2")
    model.lm_head.weight.data[:] = model.lm_head.weight.data[3].clone()
    completions = Generator(model, tokenizer, 2).generate([Request((200, 201), 3), Request((202,), 3)])
    assert [completion.tokens for completion in completions] == [(0, 0, 0)] * 2


def test_settings_of_the_model_that_change_greedy_generation_are_kept(tokenizer):
    model = random_model("llama")
    plain = [completion.tokens for completion in ask(model, tokenizer)]
    for key, value in {
        "repetition_penalty": 1.7,
        "no_repeat_ngram_size": 2,
        "bad_words_ids": [[plain[0][0]]],
        "suppress_tokens": [plain[0][0]],
    }.items():
        setattr(model.generation_config, key, value)
        tokens = [completion.tokens for completion in ask(model, tokenizer)]
        assert tokens == [theirs(model, prompt, 16) for prompt in prompts(5)], key
        assert tokens != plain, key
        setattr(model.generation_config, key, None)


def ask(model, tokenizer, **more):
    return Generator(model, tokenizer, 3, **more).generate([Request(prompt, 16) for prompt in prompts(5)])


def test_a_stop_string_ends_an_answer_across_tokens_and_is_cut_off(loaded):
    model, tokenizer = loaded
    prompt = tuple(tokenizer.encode("question", add_special_tokens=False))
    (free,) = Generator(model, tokenizer, 1).generate([Request(prompt, 40)])
    text = next(
        free.text[start : start + 3] for start in range(6, 30) if free.text[start : start + 3].isprintable()
    )
    assert len(text) == 3 and text in free.text  # a token is a byte
    (stopped,) = Generator(model, tokenizer, 1).generate([Request(prompt, 40, ("never", text))])
    assert stopped.ending == "stop" and stopped.text == free.text[: free.text.index(text)]
    assert stopped.tokens == free.tokens[: len(stopped.tokens)]
    (other,) = Generator(model, tokenizer, 1).generate([Request(prompt, 40, ("never comes",))])
    assert (other.text, other.ending) == (free.text, free.ending)


def test_a_prompt_over_the_context_is_cut_at_its_start_and_counted(tokenizer):
    model = random_model("llama")
    long = tuple(100 + place % 150 for place in range(200))
    cut, whole = Generator(model, tokenizer, 2).generate([Request(long, 28), Request(long[-100:], 28)])
    assert cut == (*whole[:3], 100) and whole.cut == 0


def test_requests_that_no_model_can_serve(tokenizer):
    model = random_model("llama")
    with pytest.raises(UserError, match="128 new tokens leave no room for a prompt in the"):
        Generator(model, tokenizer, 1).generate([Request((1,), 128)])
    with pytest.raises(UserError, match="poems: prompt 2 has no tokens, and a model can only continue some"):
        Generator(model, tokenizer, 1, label="poems").generate([Request((1,), 4), Request((), 4)])
    model.lm_head.weight.data[5] = torch.nan
    with pytest.raises(
        UserError, match="the model gives logits that aren't finite, so there is no likeliest"
    ):
        Generator(model, tokenizer, 1).generate([Request((1,), 4)])


def test_a_killed_job_resumes_item_by_item(tokenizer, tmp_path, monkeypatch):
    model, file = random_model("gpt_neox"), tmp_path / "kept" / "answers.jsonl"
    expected = ask(model, tokenizer, kept=file)
    lines = file.read_text().split("\n")
    records = [line for line in lines if line]
    assert len(records) == len({*prompts(5)})
    file.write_text("\n".join(lines[:5]) + "\n" + records[2][:-9])  # killed while it wrote the third
    done = []
    extend = Generator._extend
    monkeypatch.setattr(
        Generator, "_extend", lambda self, rows, logits: (done.extend(rows), extend(self, rows, logits))
    )
    assert ask(model, tokenizer, kept=file) == expected
    finished = [json.loads(line)[0] for line in records[:2]]
    assert {generation._digest(row.request) for row in done}.isdisjoint(finished) and done
    done.clear()
    assert ask(model, tokenizer, kept=file) == expected and not done


def test_the_texts_are_those_of_lm_evals_own_model_class(loaded):
    """Stop strings, the end of text, and prompts over the context."""
    from cpt.evaluate import scorer  # noqa: F401  (first: it turns the hub's client off)

    # isort: split
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    model, tokenizer = loaded
    texts = ["why", "a longer question than that", "How? " * 9, "the context is too short for this " * 20]
    ids = [tuple(tokenizer.encode(text, add_special_tokens=False)) for text in texts]
    free = Generator(model, tokenizer, 4).generate([Request(prompt, 30) for prompt in ids])
    stops = [completion.text[5:7] for completion in free if len(completion.text) > 7]
    assert free[-1].cut == len(ids[-1]) + 30 - 512 > 0
    for until in ([], stops):
        eos = tokenizer.decode(tokenizer.eos_token_id)
        completions = Generator(model, tokenizer, 3).generate(
            [Request(each, 30, (*until, eos)) for each in ids]
        )
        settings = {"until": until, "max_gen_toks": 30, "do_sample": False}
        theirs = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=1, add_bos_token=False)
        requests = [
            Instance("generate_until", {}, (text, settings), number) for number, text in enumerate(texts)
        ]
        expected = theirs.generate_until(requests, disable_tqdm=True)
        assert [completion.text for completion in completions] == expected
    assert any(completion.ending == "stop" for completion in completions) and stops
