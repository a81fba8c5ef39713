"""A classifier such as FineWeb-Edu's scores documents: here a tiny random one."""

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from tests.test_config import merged
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    BertTokenizerFast,
)

from cpt.config import load
from cpt.config_sections import ColumnBounds, Filters, HubClassifier, LocalClassifier
from cpt.errors import DamagedFileError, UserError
from cpt.model import sources
from edu_scores import edu_scores
from filter_documents import filter_documents
from import_classifier import import_classifier

WORDS = "the sun is a star and the moon is a rock that moves around the earth in a month"
PROSE = (
    "A sentence that is long enough to count as a line of its own.\n"
    "Another one, which says something else about quite other things."
)
TEXTS = [(WORDS[n % 7 :] + " ") * (n % 5 + 1) for n in range(40)]
TEXTS[3:6] = [None, " \n", "sun " * 2_000]


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A tiny model in the published form: BERT with one score, safetensors, a word-piece tokenizer."""
    folder = tmp_path_factory.mktemp("published")
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys(WORDS.split())]
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = BertConfig(vocab_size=len(vocabulary), num_labels=1, initializer_range=0.5, **sizes)
    config.problem_type = "regression"
    BertForSequenceClassification(config).save_pretrained(folder)
    BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def classifier(published, tmp_path_factory):
    folder = tmp_path_factory.mktemp("imported")
    source = LocalClassifier(source="local", path=str(published))
    import_classifier(source, folder / "classifier", folder / "classifier.json")
    return folder / "classifier"


def test_scores_are_those_that_transformers_gives(published, classifier, save_table, tmp_path):
    raw = save_table(tmp_path / "raw.parquet", {"text": TEXTS})
    edu_scores(raw, "text", classifier, 4, tmp_path / "scores.npy", device="cpu")
    scores = np.load(tmp_path / "scores.npy")
    tokenizer = AutoTokenizer.from_pretrained(published)
    model = AutoModelForSequenceClassification.from_pretrained(published)
    assert np.isnan(scores[3:5]).all() and scores.dtype == np.float32 and len(scores) == len(TEXTS)
    for number in {*range(len(TEXTS))} - {3, 4}:
        ids = tokenizer(TEXTS[number], truncation=True, max_length=512, return_tensors="pt")
        assert scores[number] == pytest.approx(model(**ids).logits.item(), abs=1e-5)
    assert np.nanstd(scores) > 0.01


def test_where_keeps_documents_of_a_score(save_table, tmp_path, filters):
    texts = [f"{PROSE}\n{number}" for number in range(4)]
    raw = save_table(tmp_path / "raw.parquet", {"text": texts, "stars": [1, 1, 1, 0]})
    scores = np.array([3.2, 2.9, np.nan, 4.0], np.float32)
    np.save(tmp_path / "scores.npy", scores)
    where = {"edu_score": ColumnBounds(minimum=3), "stars": ColumnBounds(minimum=1)}
    paths = {key: tmp_path / key for key in ("documents", "drops", "examples")}
    settings = Filters.model_validate(filters).document_filters
    filter_documents(raw, "text", where, settings, "none", **paths, scores=[tmp_path / "scores.npy"])
    assert pq.read_table(paths["documents"])["row"].to_pylist() == [0]
    dropped = [json.loads(line) for line in paths["examples"].read_text().splitlines()]
    reasons = {(entry["rule"], entry["value"]) for entry in dropped}
    assert reasons == {("where_edu_score", float(scores[1])), ("where_edu_score", None), ("where_stars", 0.0)}
    np.save(tmp_path / "scores.npy", scores[:3])
    with pytest.raises(DamagedFileError, match="not a score for each of 4 documents"):
        filter_documents(raw, "text", where, settings, "none", **paths, scores=[tmp_path / "scores.npy"])


def test_a_repository_is_read_at_its_revision(published, classifier, tmp_path, monkeypatch):
    def download(repo, revision, cache_dir, ignore_patterns):
        assert (repo, revision) == ("team/classifier", "0123abcd") and "*.py" in ignore_patterns
        return shutil.copytree(published, cache_dir / "snapshots" / "0123abcd")

    monkeypatch.setattr(sources, "snapshot_download", download)
    source = HubClassifier(source="hub", repo="team/classifier", revision="0123abcd")
    import_classifier(source, tmp_path / "classifier", tmp_path / "classifier.json")
    assert json.loads((tmp_path / "classifier.json").read_text())["revision"] == "0123abcd"
    weights = [folder / "model.safetensors" for folder in (tmp_path / "classifier", classifier)]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_a_classifier_that_cannot_be_used_is_named(published, tmp_path):
    def refusal(change) -> str:
        folder = shutil.copytree(published, tmp_path / change.__name__)
        change(folder)
        with pytest.raises(UserError) as error:
            source = LocalClassifier(source="local", path=str(folder))
            import_classifier(source, tmp_path / "classifier", tmp_path / "classifier.json")
        assert not (tmp_path / "classifier").exists()
        return str(error.value)

    def remove_weights(folder):
        (folder / "model.safetensors").unlink()

    def pickle_weights(folder):
        torch.save({}, folder / "pytorch_model.bin")
        remove_weights(folder)

    def require_code(folder):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"model_type": "mine"}))

    def add_a_score(folder):
        model = BertForSequenceClassification.from_pretrained(
            folder, num_labels=2, ignore_mismatched_sizes=True
        )
        model.save_pretrained(folder)

    def remove_head(folder):
        BertForSequenceClassification.from_pretrained(folder).bert.save_pretrained(folder)

    for change in (remove_weights, pickle_weights, require_code):
        assert "can't be read (" in refusal(change)
    assert "gives 2 scores, not one; name a model that was" in refusal(add_a_score)
    message = refusal(remove_head)
    assert "classifier: the weights in " in message and "lack classifier.bias" in message


def test_a_score_without_classifier_is_refused():
    config = {"corpora": {"fineweb_edu": {"where": {"edu_score": {"minimum": 3}}}}}
    load(merged(config))
    with pytest.raises(UserError, match=r"where\.edu_score: there is no classifier that gives the score"):
        load(merged(config, {"classifier": None}))
