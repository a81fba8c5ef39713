"""Weight decay applies to matrices, and to embeddings unless the config spares them."""

import pytest
import torch
from safetensors.torch import load_file
from train_settings import ENGINES, SETTINGS, planned, several
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from cpt.train.optimizer import parameter_groups

SIZES = {"vocab_size": 64, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
SIZES |= {"num_attention_heads": 2}


def decayed(model: torch.nn.Module, **changes) -> set[str]:
    """Names of the decayed parameters; each parameter is in one group."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = parameter_groups(model, SETTINGS | changes)
    assert sorted(id(p) for group in groups for p in group["params"]) == sorted(names)
    assert [group["weight_decay"] for group in groups] == [SETTINGS["weight_decay"], 0.0]
    return {names[id(parameter)] for parameter in groups[0]["params"]}


@pytest.mark.parametrize("tied", [True, False])
def test_embeddings_and_an_output_layer_with_their_matrix_are_spared(tied):
    model = LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=tied))
    everything, others = decayed(model), decayed(model, decay_embeddings=False)
    assert everything - others == {"model.embed_tokens.weight"}
    assert ("lm_head.weight" in others) is not tied
    assert not any("norm" in name for name in everything)


def test_embeddings_of_positions_are_spared_too():
    model = GPT2LMHeadModel(GPT2Config(vocab_size=64, n_positions=32, n_embd=16, n_layer=1, n_head=2))
    spared = decayed(model) - decayed(model, decay_embeddings=False)
    assert spared == {"transformer.wte.weight", "transformer.wpe.weight"}


TRAINED = ("ddp", "fsdp", "zero 1")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, model_folder, packed_folder):
    """Trainings ENGINE/all and ENGINE/spared, and their start, whose output layer is untied."""
    root = tmp_path_factory.mktemp("decayed")
    start = root / "start"
    model = AutoModelForCausalLM.from_pretrained(model_folder)
    LlamaForCausalLM(
        LlamaConfig(**{**model.config.to_dict(), "tie_word_embeddings": False, "vocab_size": 120})
    ).save_pretrained(start)
    listed = []
    for engine in TRAINED:
        for name, changes in (("all", {}), ("spared", {"decay_embeddings": False})):
            plan = planned(12 * 64, packed_folder, weight_decay=0.5, **(ENGINES[engine] | changes))
            listed.append({"plan": plan, "model_folder": str(start), "work": str(root / engine / name)})
            listed[-1] |= {"sequences_folders": [str(packed_folder)], "stop_after": None}
    several(listed, 1, root)
    return root


@pytest.mark.parametrize("engine", TRAINED)
def test_rows_of_tokens_that_never_occur_stay(trained, engine):
    """Their only gradient is that of the output layer."""
    before, every, spared = (
        load_file(folder / "model.safetensors")["model.embed_tokens.weight"][101:]  # ids that don't occur
        for folder in (
            trained / "start",
            trained / engine / "all" / "model",
            trained / engine / "spared" / "model",
        )
    )
    assert torch.equal(spared, before) and not torch.equal(every, before)
