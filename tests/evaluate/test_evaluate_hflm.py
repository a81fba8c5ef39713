"""The model answers all requests of lm-eval as lm-eval's own class (HFLM) does."""

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from tokenizers.processors import TemplateProcessing
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from cpt.errors import UserError
from cpt.evaluate import scorer
from cpt.evaluate.answers import Answers
from cpt.evaluate.generation import Generator
from cpt.evaluate.model import load_model
from cpt.evaluate.scorer import Scorer

# lm-eval after the evaluate wing, which turns the hub's client off.
from lm_eval.api.instance import Instance  # isort: skip
from lm_eval.models.huggingface import HFLM  # isort: skip

CONTEXT, VOCABULARY = 320, 400
TEXT = (
    "Question: why do the leaves of trees fall in autumn? Answer: the days are shorter, and the trees save "
    "water. Question: what is a library for? Answer: for reading, and for what is read.\n\n"
)
KINDS = {  # each has another key for its context length
    "llama": {"num_attention_heads": 4, "max_position_embeddings": CONTEXT, "intermediate_size": 64},
    "gpt2": {"n_head": 4, "n_layer": 2, "n_embd": 32, "n_positions": CONTEXT},
    "bloom": {"n_head": 4, "n_layer": 2, "hidden_size": 32},  # has no key, so the tokenizer's length counts
}
LONG = TEXT * 9  # longer than the context
BOS, EOS = "<s>", "<|endoftext|>"


def write_model(folder, kind="llama", bos=True):
    """A random model with opinions, and a tokenizer that puts BOS first, or has none."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    specials = [EOS, BOS] if bos else [EOS]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator([TEXT], trainer)
    if bos:
        backend.post_processor = TemplateProcessing(
            single=f"{BOS} $A", special_tokens=[(BOS, backend.token_to_id(BOS))]
        )
    names = {"eos_token": EOS, "bos_token": BOS} if bos else {"eos_token": EOS}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=CONTEXT, **names)
    shape = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, **KINDS[kind]}
    torch.manual_seed(0)
    # The end of text in the config isn't the tokenizer's, which is the one that counts.
    model = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(kind, **shape, eos_token_id=7, bos_token_id=8)
    )
    for name, parameter in model.named_parameters():
        parameter.data.mul_(3 if "norm" not in name and "ln" not in name else 1)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A Llama with each of two tokenizers, by whether it has BOS."""
    folder = tmp_path_factory.mktemp("hflm")
    return {bos: write_model(folder / f"bos-{bos}", bos=bos) for bos in (True, False)}


@pytest.fixture(scope="module", params=[(True, False), (True, True), (False, False)], ids=str)
def systems(folders, request):
    """Ours and lm-eval's on one folder: with BOS in the tokenizer or not, and add_bos_token."""
    return both(folders[request.param[0]], request.param[1])


def both(folder, add_bos_token=False, batch_tokens=128):
    ours = Scorer(*load_model(folder, "float32", 1, "cpu"), batch_tokens, add_bos_token)
    theirs = HFLM(
        pretrained=str(folder), device="cpu", dtype="float32", batch_size=1, add_bos_token=add_bos_token
    )
    return ours, theirs


@pytest.fixture
def ours(systems):
    systems[0].label, systems[0].answers, systems[0].cuts = "quiz", Answers(), {}
    return systems[0]


@pytest.fixture
def theirs(systems):
    return systems[1]


def instances(kind, arguments, task="quiz"):
    return [Instance(kind, {}, each, 0, (task, number, 1)) for number, each in enumerate(arguments)]


def assert_same(one, other):
    assert [value for value, _ in one] == pytest.approx([value for value, _ in other], abs=1e-4)
    assert [greedy for _, greedy in one] == [greedy for _, greedy in other]


PAIRS = [
    (context, answer)
    for context in (
        "",
        "Question: why?",
        "Question: why? ",
        "ends with two  ",
        "a line\n",
        f"{BOS}Question: begins with the special string",
        LONG,
        LONG + " ",
    )
    for answer in (" the trees", "the", " for reading, and for what is read.\n\n", " ")
]


def test_log_likelihoods_and_cuts(ours, theirs, caplog):
    requests = instances("loglikelihood", PAIRS)
    expected = theirs.loglikelihood(requests, disable_tqdm=True)
    assert_same(ours.loglikelihood(requests), expected)
    cuts = {}
    for number, pair in enumerate(PAIRS):
        context, answer = ours._encoded(*pair)
        if pair[0]:
            assert (context, answer) == theirs._encode_pair(*pair)
        if len(context) + len(answer) > CONTEXT + 1:
            cuts["quiz", number] = len(context) + len(answer) - CONTEXT - 1
    assert ours.cuts == cuts and len(cuts) == 8
    assert (
        "quiz: 8 items are too long for the model's context of 320 tokens; as lm-eval does, " in caplog.text
    )
    assert f"{sum(cuts.values())} tokens at their start were cut" in caplog.text


def test_rolling_log_likelihoods(ours, theirs):
    texts = [(text,) for text in (TEXT, TEXT * 30, "a", "", " \n", f"{BOS}begins")]
    requests = instances("loglikelihood_rolling", texts)
    expected = theirs.loglikelihood_rolling(requests, disable_tqdm=True)
    assert len(theirs.tok_encode(texts[1][0])) > 3 * CONTEXT  # several windows
    assert ours.loglikelihood_rolling(requests) == pytest.approx(expected, abs=1e-4, rel=1e-6)
    assert ours.cuts == {}


@pytest.mark.parametrize(
    "settings",
    [
        {"until": [], "max_gen_toks": 40, "do_sample": False},
        {"until": "e", "max_gen_toks": 40, "temperature": 0.0},
        {"until": ["never", "\n\n", " t", "?"], "max_new_tokens": 40, "do_sample": False, "temperature": 1.0},
        {"until": ["Question: this never comes"], "max_tokens": 30, "num_beams": 1},
        {"until": [""], "max_gen_toks": 9},
        {"until": [EOS], "max_gen_toks": 60},
        {"max_gen_toks": 12, "top_p": 1.0},
        {"until": ["."]},  # 256 tokens
    ],
    ids=str,
)
def test_generations_and_cuts(ours, theirs, settings):
    contexts = [LONG, "Question: why? ", TEXT, f"{BOS}Answer:", "a"]
    if settings == {"until": ["."]}:
        contexts = contexts[:2]
    requests = instances("generate_until", [(context, dict(settings)) for context in contexts])
    assert ours.generate_until(requests) == theirs.generate_until(requests, disable_tqdm=True)
    new = next((value for key, value in settings.items() if key.startswith("max")), 256)
    lengths = [len(theirs.tok_encode(context)) for context in contexts]
    assert ours.cuts == {
        ("quiz", number): length + new - CONTEXT
        for number, length in enumerate(lengths)
        if length + new > CONTEXT
    }
    # Log-likelihoods after it are right as well.
    requests = instances("loglikelihood", PAIRS[:4])
    assert_same(ours.loglikelihood(requests), theirs.loglikelihood(requests, disable_tqdm=True))


def test_properties(ours, theirs):
    for name in ("prefix_token_id", "eot_token_id", "max_length", "max_gen_toks", "tokenizer_name", "device"):
        assert getattr(ours, name) == getattr(theirs, name), name
    for text in ("", " ", "a b", f"{BOS}a", f"{BOS}", "Größe 漢字"):
        assert ours.tok_encode(text) == theirs.tok_encode(text)
        if BOS not in text:  # ours reads BOS as text, unless a BOS is allowed there
            assert ours.tok_encode(text, False) == theirs.tok_encode(text, add_special_tokens=False)
        ids = theirs.tok_encode(text)
        for skip in (True, False):
            assert ours.tok_decode(ids, skip) == theirs.tok_decode(ids, skip)


@pytest.mark.parametrize("kind", ["gpt2", "bloom"])
def test_where_the_context_length_comes_from(kind, tmp_path):
    ours, theirs = both(write_model(tmp_path / kind, kind))
    assert ours.max_length == theirs.max_length == CONTEXT
    requests = instances("loglikelihood", PAIRS[:12] + PAIRS[-4:])
    assert_same(ours.loglikelihood(requests), theirs.loglikelihood(requests, disable_tqdm=True))
    requests = instances("generate_until", [(LONG, {"until": ["e"], "max_gen_toks": 20})])
    assert ours.generate_until(requests) == theirs.generate_until(requests, disable_tqdm=True)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (
            "gemma2",
            {"head_dim": 8, "num_key_value_heads": 2, "final_logit_softcapping": 0.5},
        ),
        ("granite", {"logits_scaling": 7.0, "num_key_value_heads": 2}),
        ("cohere", {"logit_scale": 0.3, "num_key_value_heads": 2}),
    ],
)
def test_models_that_change_the_logits_at_the_end(kind, options, tmp_path, monkeypatch):
    monkeypatch.setitem(KINDS, kind, {**KINDS["llama"], **options})
    ours, theirs = both(write_model(tmp_path / kind, kind))
    requests = instances("loglikelihood", PAIRS[:12])
    assert_same(ours.loglikelihood(requests), theirs.loglikelihood(requests, disable_tqdm=True))


def test_what_lm_eval_cant_do_either_has_a_message(ours):
    assert ours.loglikelihood(instances("loglikelihood", [("", EOS + "x")]))
    for question, message in {
        ("Why?", ""): "quiz, item 0: lm-eval can't score an answer without a token; remove the item",
        ("Why?", LONG): r"quiz, item 0: an answer of \d+ tokens doesn't fit into the model's context of",
    }.items():
        with pytest.raises(UserError, match=message):
            ours.loglikelihood(instances("loglikelihood", [question]))
    for settings, message in (
        ({"do_sample": True}, "quiz, item 0: generation_kwargs has do_sample: True, but answers are"),
        ({"temperature": 0.7}, "generation_kwargs has do_sample: True, but answers are generated greedily"),
        ({"num_beams": 3}, "generation_kwargs has num_beams: 3, but answers are generated greedily"),
        ({"repetition_penalty": 2}, "generation_kwargs has repetition_penalty: 2, but answers are"),
        ({"max_gen_toks": 0}, "quiz, item 0: generation_kwargs has max_gen_toks: 0; give it at least 1"),
        ({"max_gen_toks": 320}, "quiz: 320 new tokens leave no room for a prompt in the context of 320"),
    ):
        with pytest.raises(UserError, match=message):
            ours.generate_until(instances("generate_until", [("Why?", settings)]))


def test_questions_of_nothing_or_spaces(ours, theirs):
    """With BOS first, even an empty question has a token."""
    spaces, prompt = instances("loglikelihood", [("  ", "yes")]), instances("generate_until", [("", {})])
    if ours.add_bos_token:
        assert_same(ours.loglikelihood(spaces), theirs.loglikelihood(spaces, disable_tqdm=True))
        assert ours.generate_until(prompt) == theirs.generate_until(prompt, disable_tqdm=True)
        return
    with pytest.raises(UserError, match="quiz, item 0: lm-eval can't score a question that is nothing but"):
        ours.loglikelihood(spaces)
    with pytest.raises(UserError, match="quiz, item 0: the prompt is empty, and a model can only continue"):
        ours.generate_until(prompt)
    with pytest.raises(AssertionError):
        theirs.loglikelihood(spaces, disable_tqdm=True)


def few_shot():
    """Questions of two subjects, each with its examples, and one without; four answers to each."""
    subjects = [
        f"{name}. {TEXT * (3 + index)}" for index, name in enumerate(("Botany", "Libraries", "Empty"))
    ]
    return [
        (f"{subject}Question {number}: which of {number * 7} trees?\nAnswer:", f" {answer} of them")
        for subject in subjects[:2]
        for number in range(9)
        for answer in (1, 20, 300, "none")
    ] + [(f"{subjects[2]}Question: why?\nAnswer:", " because")]


def test_examples_are_read_once_and_a_killed_job_ends_with_the_same_bytes(
    ours, theirs, tmp_path, monkeypatch
):
    requests = instances("loglikelihood", few_shot())
    stems = []
    states = scorer.stem_states
    monkeypatch.setattr(scorer, "stem_states", lambda model, stem: stems.append(stem) or states(model, stem))
    whole = ours.loglikelihood(requests)
    assert_same(whole, theirs.loglikelihood(requests, disable_tqdm=True))
    assert len(stems) == 2 and min(map(len, stems)) > len(theirs.tok_encode(TEXT * 3))
    ours.answers, score, calls = Answers(tmp_path / "kept.jsonl"), ours._score, []

    def dying(*arguments):
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append(arguments)
        return score(*arguments)

    monkeypatch.setattr(ours, "_score", dying)
    with pytest.raises(KeyboardInterrupt):
        ours.loglikelihood(requests)
    monkeypatch.undo()
    ours.answers = Answers(tmp_path / "kept.jsonl")
    assert ours.loglikelihood(requests) == whole  # to the bit
    monkeypatch.setattr(ours, "_score", None)
    ours.answers = Answers(tmp_path / "kept.jsonl")
    assert ours.loglikelihood(requests) == whole


def test_rolling_and_generated_answers_are_kept_too(ours, tmp_path, monkeypatch):
    texts = instances("loglikelihood_rolling", [(TEXT * 20,), ("a",)])
    prompts = instances("generate_until", [(TEXT, {"max_gen_toks": 9}), ("Why?", {"max_gen_toks": 9})])
    ours.answers = Answers(tmp_path / "kept.jsonl")
    first = ours.loglikelihood_rolling(texts), ours.generate_until(prompts)
    monkeypatch.setattr(ours, "_score", None)
    monkeypatch.setattr(Generator, "_extend", None)
    ours.answers = Answers(tmp_path / "kept.jsonl")
    assert (ours.loglikelihood_rolling(texts), ours.generate_until(prompts)) == first
    assert ours.generate_until([]) == ours.loglikelihood([]) == ours.loglikelihood_rolling([]) == []
