"""Between two updates nothing reads a value from a device, since the CPU would wait for a GPU there."""

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from train_settings import SETTINGS
from transformers import AutoModelForCausalLM, masking_utils

from cpt.train.batches import PackedSequences, on_device
from cpt.train.losses import skip_packing_check
from cpt.train.plain_engine import PlainEngine

CPU = torch.device("cpu")
aten = torch.ops.aten
# Their results, or the shapes of the results, depend on values of tensors.
WAITING = {
    aten._local_scalar_dense,
    aten.nonzero,
    aten.masked_select,
    aten.equal,
    aten.bincount,
    aten._unique2,
}


class Waited(Exception):
    """Raised by NoWaiting."""


class NoWaiting(TorchDispatchMode):
    """Raises Waited where the CPU would wait for a GPU."""

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        indices = arguments[1] if function.overloadpacket in (aten.index, aten.index_put) else ()
        has_mask = any(index is not None and index.dtype == torch.bool for index in indices)
        if function.overloadpacket in WAITING or has_mask:
            raise Waited(function)
        return function(*arguments, **options or {})


@pytest.mark.parametrize("selected", [False, True])
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("masking", [False, True])
def test_forward_and_backward_pass(model_folder, packed_documents, masking, checkpointing, selected):
    packed = PackedSequences(packed_documents, document_masking=masking)
    batch = packed.batch(np.arange(4), np.ones(4, np.float32))
    assert (batch.positions is not None) == masking
    model = AutoModelForCausalLM.from_pretrained(model_folder).train()
    settings = SETTINGS | {"gradient_checkpointing": checkpointing}
    engine = PlainEngine(model, settings, CPU, 1)
    sequences, ranks = torch.arange(4).repeat_interleave(9), torch.arange(9).repeat(4)
    selection = (torch.zeros(4, 63, dtype=torch.float16), sequences, ranks) if selected else ()
    with NoWaiting():
        losses = engine.loss(*on_device(batch, CPU), *selection).expand(2)
        engine.backward(losses[0] / 100)
    assert losses.isfinite().all()


def test_the_check_itself_and_that_transformers_would_wait(model_folder):
    for waits in (
        lambda: bool(torch.ones(1)),
        lambda: torch.ones(3)[torch.ones(3) > 0],
        lambda: torch.ones(3).nonzero(),
    ):
        with NoWaiting(), pytest.raises(Waited):
            waits()
    model = AutoModelForCausalLM.from_pretrained(model_folder)
    with NoWaiting(), pytest.raises(Waited):
        model(torch.zeros(1, 8, dtype=torch.int64), use_cache=False)


def test_transformers_knows_the_documents_during_a_forward_pass():
    own = masking_utils.find_packed_sequence_indices
    positions = torch.tensor([[0, 1, 0, 1, 2, 0]])
    with pytest.raises(KeyError), skip_packing_check(apart=True):
        numbers = masking_utils.find_packed_sequence_indices(positions)
        raise KeyError
    assert (numbers - numbers[:, :1]).tolist() == own(positions).tolist() == [[0, 0, 1, 1, 1, 2]]
    with skip_packing_check(apart=False):
        assert masking_utils.find_packed_sequence_indices(positions) is None
    assert masking_utils.find_packed_sequence_indices is own
