"""Attention for a GPU, with only its kernel replaced: separate documents, and which kernel is chosen."""

import copy
from functools import partial

import pytest
import torch
from pretended_gpu import varlen_on_cpu
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn.attention import SDPBackend, _cur_sdpa_kernel_backends
from train_settings import SETTINGS
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from cpt.train import attention
from cpt.train.attention import DOCUMENTS, REPEATED_KEYS, choose_attention
from cpt.train.losses import LossModel
from cpt.train.plain_engine import PlainEngine

CPU, GPU = torch.device("cpu"), torch.device("cuda")
SIZES = {"vocab_size": 50, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 8}
LENGTH = 40
PLAIN = {"precision": "bf16", "document_masking": False}
MASKED = PLAIN | {"document_masking": True}


@pytest.fixture(scope="module", autouse=True)
def kernels():
    varlen_on_cpu.install()


@pytest.fixture(autouse=True)
def order():
    """Restore the order of SDPA's kernels after each test."""
    yield
    attention._order.close()


def llama(**changes) -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**SIZES | HEADS | changes)).train()


def batch(*documents: list[int]) -> list[torch.Tensor]:
    """Sequences of documents of these lengths, as LossModel takes them."""
    lengths = [length for sequence in documents for length in sequence]
    positions = torch.cat([torch.arange(length) for length in lengths]).view(-1, LENGTH)
    starts = torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32)
    ids = torch.randint(0, 50, positions.shape, generator=torch.Generator().manual_seed(1))
    return [ids, positions, torch.ones(len(ids), LENGTH - 1), starts]


def loss_and_gradients(model, inputs, checkpointing=False) -> list[torch.Tensor]:
    loss = LossModel(model, checkpointing)(*inputs)
    return [loss.detach(), *torch.autograd.grad(loss, list(model.parameters()))]


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(
    "make",
    [llama, lambda: MistralForCausalLM(MistralConfig(**SIZES | HEADS, sliding_window=7))],
    ids=["llama", "window"],
)
def test_separate_documents_are_the_same_with_and_without_a_mask(make, checkpointing):
    model = make().train()
    other = copy.deepcopy(model)
    other.set_attn_implementation(DOCUMENTS)
    inputs = batch([13, 1, 26], [40], [20, 20])
    for case in (inputs, [*inputs[:3], None], [inputs[0], None, inputs[2]]):  # without starts, with a mask
        expected = loss_and_gradients(model, case, checkpointing)
        for tensor, reference in zip(loss_and_gradients(other, case, checkpointing), expected, strict=True):
            assert (tensor - reference).norm() <= 1e-5 * reference.norm()


def test_compiled_once_for_any_number_of_documents(monkeypatch):
    """In bfloat16, with the same losses as with a mask."""
    compiled = CompileCounterWithBackend("aot_eager")
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=compiled))
    torch.compiler.reset()
    losses = {}
    for name in ("sdpa", DOCUMENTS):
        model = llama()
        model.set_attn_implementation(name)
        settings = SETTINGS | {"precision": "bf16", "compile": name == DOCUMENTS}
        engine = PlainEngine(model, settings, CPU, 1)
        losses[name] = []
        for documents in ([40], [40]), ([13, 27], [40]), ([5] * 8, [20, 20]), ([1] * 40, [39, 1]):
            loss = engine.loss(*batch(*documents))
            engine.backward(loss / 78)
            engine.step(1e-2)
            losses[name].append(loss.item())
    assert losses[DOCUMENTS] == pytest.approx(losses["sdpa"], rel=5e-3)
    assert compiled.frame_count == 2  # a layer, and the loss


def test_repeated_keys_give_the_same_as_shared_keys():
    model = llama()
    other = copy.deepcopy(model)
    other.set_attn_implementation(REPEATED_KEYS)
    inputs = batch([13, 27], [40])
    for case in (inputs, [inputs[0], None, inputs[2]]):
        expected = loss_and_gradients(model, case)
        for tensor, reference in zip(loss_and_gradients(other, case), expected, strict=True):
            assert (tensor - reference).norm() <= 1e-5 * reference.norm()


@pytest.mark.parametrize(
    ("settings", "capability", "changes", "implementation", "recorded", "logged"),
    [
        (MASKED, (9, 0), {}, DOCUMENTS, "varlen", "attention: varlen"),
        (MASKED, (7, 5), {}, "sdpa", "flash", "slower: the GPU is older than Ampere"),
        (MASKED, (8, 0), {"head_dim": 22}, "sdpa", "flash", "slower: heads of 22"),
        (MASKED, (8, 0), {"attention_dropout": 0.1}, "sdpa", "flash", "slower: the model has dropout"),
        (MASKED | {"precision": "float32"}, (9, 0), {}, REPEATED_KEYS, "flash", "slower: precision isn't"),
        (PLAIN | {"precision": "float32"}, (9, 0), {}, REPEATED_KEYS, "flash", "attention: flash"),
        (PLAIN, (9, 0), {}, "sdpa", "flash", "attention: flash"),
        (PLAIN, (9, 0), {"attn_implementation": "eager"}, "eager", "eager", ""),
    ],
)
def test_what_is_chosen(settings, capability, changes, implementation, recorded, logged, monkeypatch, caplog):
    queries = []

    def choice(query, key, value, mask, dropout, causal, enable_gqa):
        queries.append((query.dtype, query.shape[1] == key.shape[1], mask is None, enable_gqa))
        return SDPBackend.FLASH_ATTENTION.value

    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch, "_fused_sdp_choice", choice)
    for name in ("empty", "ones"):
        function = getattr(torch, name)
        monkeypatch.setattr(
            torch, name, lambda *size, device=None, make=function, **options: make(*size, **options)
        )
    caplog.set_level("INFO")
    model = llama(**changes)
    settings = dict(settings)
    choose_attention(model, settings, GPU)
    assert (model.config._attn_implementation, settings["attention"]) == (implementation, recorded)
    assert logged in caplog.text
    assert bool(queries) == (recorded == "flash")
    if queries:
        single, masked = settings["precision"] == "float32", settings["document_masking"]
        repeated = single or masked
        assert queries == [(torch.float32 if single else torch.bfloat16, repeated, not masked, not repeated)]


@pytest.mark.parametrize(
    ("capability", "cudnn", "first"),
    [
        ((9, 0), 91501, SDPBackend.CUDNN_ATTENTION),
        ((10, 0), 92000, SDPBackend.CUDNN_ATTENTION),
        ((9, 0), 91500, SDPBackend.FLASH_ATTENTION),  # wrong for 2,000 tokens
        ((12, 0), 92000, SDPBackend.FLASH_ATTENTION),
        ((8, 0), 92000, SDPBackend.FLASH_ATTENTION),
        ((9, 0), None, SDPBackend.FLASH_ATTENTION),
    ],
)
def test_order_of_kernels(capability, cudnn, first, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: cudnn)
    monkeypatch.setattr(attention, "_sdpa_kernel_name", lambda *_: "flash")
    choose_attention(llama(), dict(PLAIN), GPU)
    backends = _cur_sdpa_kernel_backends(with_priority=True)
    assert backends[0] == first and backends[-1] == SDPBackend.MATH
    assert len(backends) == (4 if first == SDPBackend.CUDNN_ATTENTION else 3)


def test_a_cpu_keeps_its_attention():
    model, settings = llama(), dict(MASKED)
    choose_attention(model, settings, CPU)
    assert model.config._attn_implementation == "sdpa" and settings == MASKED


def test_the_slow_kernel_gives_a_warning(monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(attention, "_sdpa_kernel_name", lambda *_: "math")
    choose_attention(llama(), dict(PLAIN), GPU)
    assert [(r.levelname, r.message) for r in caplog.records] == [
        ("WARNING", "attention: math, which is slow and takes much memory")
    ]
