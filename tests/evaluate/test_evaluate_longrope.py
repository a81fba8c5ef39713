"""Models whose rotary frequencies depend on the length: each sequence is scored with its own."""

import numpy as np
import pytest
from lm_eval.models.huggingface import HFLM
from tests import long_ropes
from transformers import PreTrainedModel

from cpt.evaluate.bits import bits_per_byte
from cpt.evaluate.scorer import Scorer
from cpt.token_windows import HeldOut

CONTEXT, ORIGINAL = 160, 40
KINDS = [*long_ropes.KINDS, *long_ropes.OF_NO_LENGTH]


def random_model(kind: str, rope: str) -> PreTrainedModel:
    return long_ropes.random_model(kind, rope, 256, CONTEXT, ORIGINAL).eval()


def requests() -> list[tuple[tuple[str, str], list[int], list[int]]]:
    """Answers to contexts that begin alike; sequences shorter than the original length, equal, and longer."""
    generator = np.random.default_rng(0)
    beginning = generator.integers(0, 256, CONTEXT).tolist()
    cases = []
    for size in (5, 20, ORIGINAL - 2, ORIGINAL - 1, ORIGINAL, ORIGINAL + 1, 70, 120):
        for answer in (1, 2, 3):
            continuation = generator.integers(0, 256, answer).tolist()
            cases.append((("context", f"{size} {answer}"), beginning[:size], continuation))
    return cases


@pytest.mark.parametrize(("kind", "rope"), KINDS)
def test_scores_are_those_of_each_sequence_alone_whatever_the_rows(kind, rope, loaded):
    _, tokenizer = loaded
    theirs = HFLM(pretrained=random_model(kind, rope), tokenizer=tokenizer, batch_size=1)
    expected = [value for value, _ in theirs._loglikelihood_tokens(requests(), disable_tqdm=True)]
    for tokens in (32, 1_024):
        scorer = Scorer(random_model(kind, rope), tokenizer, tokens, add_bos_token=False)
        assert scorer.shares
        assert [value for value, _ in scorer._loglikelihood_tokens(requests())] == pytest.approx(
            expected, abs=1e-4
        )
    scorer.model.set_attn_implementation("sdpa")
    scorer.shares = False
    assert [value for value, _ in scorer._loglikelihood_tokens(requests())] == pytest.approx(
        expected, abs=1e-4
    )


@pytest.mark.parametrize(("kind", "rope"), KINDS)
def test_bits_per_byte_are_the_same_at_any_batch_size(kind, rope):
    lengths = [150, 90, ORIGINAL + 1, ORIGINAL, ORIGINAL - 1, 12, 3]
    tokens = np.random.default_rng(1).integers(0, 256, sum(lengths)).astype(np.uint32)
    held_out = HeldOut(tokens, np.cumsum(lengths), np.array(lengths), 0)
    model = random_model(kind, rope)
    alone, together = (bits_per_byte(model, held_out, CONTEXT, size)["loss"] for size in (1, 8))
    assert together == pytest.approx(alone, abs=1e-5)
