"""Runs that are fine-tuned on conversations: what they train on, and what is refused."""

import pytest
from tests.test_config import merged

from cpt.config import load
from cpt.errors import UserError

CHAT = {"source": "local", "files": "chat/*.jsonl", "conversations": True}


def config(run: dict, **others):
    runs = {"cpt-1B": None, "tuned": {"tokens": "1M", "gpus": 1, **run}}
    return merged({"corpora": {"chat": CHAT, "other": CHAT}, "runs": runs, **others})


def test_a_corpus_is_a_mixture_and_documents_are_masked():
    experiment = load(config({"finetune": "chat", "start_from": "cpt-400M"}))
    assert experiment.mixture_of("tuned") == "chat" and experiment.mixtures["chat"] == {"chat": 1.0}
    assert experiment.mixture_of("cpt-400M") == "domain"
    masked = {run: experiment.train_settings(run).document_masking for run in ("tuned", "cpt-400M")}
    assert masked == {"tuned": True, "cpt-400M": False}
    own = load(config({"finetune": "chat", "train": {"document_masking": False}}))
    assert not own.train_settings("tuned").document_masking
    # The config beside the results is the same one.
    assert load(experiment.model_dump(mode="json")) == experiment


def test_a_mixture_of_conversations_and_the_only_mixture_of_the_other_runs():
    mixtures = {"domain": None, "text": {"fineweb_edu": 1.0}}
    experiment = load(config({"finetune": "chat"}, mixtures=mixtures))
    assert (experiment.mixture_of("cpt-400M"), experiment.mixture_of("tuned")) == ("text", "chat")
    both = load(config({"finetune": "both"}, mixtures={"both": {"chat": 0.5, "other": 0.5}}))
    assert both.mixture_of("tuned") == "both" and both.train_settings("tuned").document_masking


def test_conversations_are_always_measured_with_a_share_of_their_own():
    corpora = {"chat": CHAT | {"held_out_share": 0.1}}
    experiment = load(merged({"corpora": corpora}))
    assert experiment.measured_corpora == ["fineweb_edu", "chat"] == experiment.used_corpora
    assert experiment.domain_and_general == ["fineweb_edu"]
    shares = [experiment.held_out_settings(corpus).share for corpus in experiment.used_corpora]
    assert shares == [0.001, 0.1]
    assert experiment.corpora["chat"].messages_column == "messages"
    corpora["chat"]["text_column"] = "dialogue"
    assert load(merged({"corpora": corpora})).corpora["chat"].messages_column == "dialogue"


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (
            {"finetune": "chta"},
            r"runs\.tuned\.finetune: there is no 'chta' in corpora or mixtures; did you mean 'chat'",
        ),
        (
            {"finetune": "fineweb_edu"},
            r"finetune: fineweb_edu has no conversations; set corpora\.fineweb_edu\.conversations: true",
        ),
        ({"finetune": "domain"}, r"finetune: fineweb_edu has no conversations"),
        (
            {"finetune": "chat", "mixture": "domain"},
            r"runs\.tuned\.mixture: runs\.tuned\.finetune says what the run trains on; remove one of them",
        ),
        (
            {"finetune": "chat", "switch": {"mixture": "domain", "at": 0.5}},
            r"runs\.tuned\.switch: runs\.tuned\.finetune says what the run trains on",
        ),
        (
            {"finetune": "chat", "tokens": 0, "gpus": 0},
            r"runs\.tuned\.finetune: has no effect without tokens",
        ),
    ],
)
def test_what_is_refused(run, message):
    with pytest.raises(UserError, match=message):
        load(config(run))


def test_bounds_on_columns_dont_go_with_conversations():
    corpora = {"chat": CHAT | {"where": {"score": {"minimum": 1}}}}
    with pytest.raises(UserError, match=r"corpora\.chat: where: isn't possible with conversations: true"):
        load(merged({"corpora": corpora}))
