"""A classifier of words finds documents that resemble those of another corpus."""

import json
import random
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from paragraphs import PARAGRAPHS
from stages import SCRIPTS, content
from tests.test_config import merged

from cpt.config import load
from cpt.config_sections import ColumnBounds, Filters
from cpt.config_similarity import similar_corpora
from cpt.corpus.similarity import Similarity, features_of, sample
from cpt.errors import DamagedFileError, UserError
from filter_documents import filter_documents
from similarity_model import similarity_model

SHARED = "the of and with which from into over under their these other many some every after before"
TOPICS = {
    "cooking": "simmer onion butter garlic oven flour whisk dough pepper saucepan braise roast basil",
    "sailing": "mast rudder halyard keel tack jib harbour anchor windward buoy stern mainsail reef",
}
HOSTILE = [
    None,
    "",
    " \n\t",
    "...!?",
    "\ufffd\0\ud7ff",
    "x" * 50_000,
    "é\u0301" * 3_000,
    b"\xff\xfe\x00",
    "日本語",
]


def document(topic: str, number: int) -> str:
    """Four lines of common words with a few of a topic, different for each number."""
    chance = random.Random(f"{topic} {number}")
    words = [chance.choice((TOPICS[topic] if chance.random() < 0.2 else SHARED).split()) for _ in range(80)]
    return "\n".join(" ".join(words[line : line + 20]) for line in range(0, 80, 20))


def texts(topic: str, count: int, first: int = 0) -> list[str]:
    return [document(topic, first + number) for number in range(count)]


@pytest.fixture(scope="module")
def learn(save_table):
    """learn(folder, own, general, shards) runs the stage on `shards` files of each; returns its outputs."""

    def run(folder: Path, own: list, general: list, shards: int = 1) -> dict[str, Path]:
        paths = {}
        for name, documents in (("own", own), ("general", general)):
            paths[name] = [
                save_table(folder / f"{name}{n}.parquet", {"content": documents[n::shards]})
                for n in range(shards)
            ]
        outputs = {"model": folder / "similarity.npy", "report": folder / "similarity.json"}
        columns = {"own_column": "content", "general_column": "content"}
        similarity_model("web", "mine", **paths, **columns, **outputs)
        return outputs

    return run


@pytest.fixture(scope="module")
def model_files(learn, tmp_path_factory):
    """The stage's outputs for cooking against sailing with a little cooking."""
    general = [*texts("sailing", 300), *texts("cooking", 15, first=1_000), *HOSTILE[:6]]
    return learn(tmp_path_factory.mktemp("learnt"), texts("cooking", 200), general)


def utf8(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), np.uint8)


def test_two_kinds_of_text_are_distinguished(model_files):
    report = json.loads(model_files["report"].read_text())
    assert report["learnt_from"] == {"own": 160, "general": 252}  # of 316: five texts have no words
    assert report["held_out"] == {"own": 40, "general": 64}
    assert report["auc"] > 0.9 and report["accuracy"] > 0.9
    shares = [kept["own"] for kept in report["kept"].values()]
    assert shares == sorted(shares, reverse=True) and shares[0] == 1
    classifier = Similarity(model_files["model"])
    cooking, sailing = (
        [classifier.probability(utf8(text)) for text in texts(topic, 100, first=5_000)] for topic in TOPICS
    )
    assert min(cooking) > max(sailing) and np.mean(np.array(cooking) > 0.5) > 0.95


def test_where_keeps_documents_like_those_of_the_other_corpus(model_files, save_table, tmp_path, filters):
    kinds = ["cooking", "sailing", "sailing", "cooking"]
    documents = [document(kind, 7_000 + number) for number, kind in enumerate(kinds)]
    raw = save_table(tmp_path / "raw.parquet", {"text": [*documents, "", None], "similarity": [0.0] * 6})
    rows = {}
    for name, bounds in (("like", {"minimum": 0.5}), ("unlike", {"maximum": 0.5})):
        where = {"similarity": ColumnBounds(**bounds)}
        paths = {key: tmp_path / name / key for key in ("documents", "drops", "examples")}
        settings = Filters.model_validate(filters).document_filters
        filter_documents(raw, "text", where, settings, "none", **paths, similarity=[model_files["model"]])
        rows[name] = pq.read_table(paths["documents"])["row"].to_pylist()
    assert rows == {"like": [0, 3], "unlike": [1, 2]}
    dropped = (tmp_path / "like" / "examples").read_text().splitlines()
    assert {json.loads(line)["rule"] for line in dropped} == {"where_similarity"} and len(dropped) == 4
    assert all(json.loads(line)["value"] < json.loads(line)["threshold"] == 0.5 for line in dropped)


def test_bytes_depend_neither_on_the_shards_nor_on_the_order(learn, model_files, tmp_path):
    general = [*texts("sailing", 300), *texts("cooking", 15, first=1_000), *HOSTILE[:6]]
    again = learn(tmp_path, texts("cooking", 200)[::-1], [*general[::-1], general[0]], shards=3)
    assert [content(path) for path in again.values()] == [content(path) for path in model_files.values()]


def test_the_sample_is_bounded_and_the_same_in_any_order(monkeypatch):
    monkeypatch.setattr("cpt.corpus.similarity.SAMPLE", 10)
    documents = [utf8(text) for text in texts("cooking", 100)]
    chosen, again = sample(documents), sample(documents[::-1])
    assert len(chosen) == 10
    assert all(np.array_equal(one.places, other.places) for one, other in zip(chosen, again, strict=True))


def test_any_document_has_a_probability(model_files):
    classifier = Similarity(model_files["model"])
    for text in HOSTILE:
        data = np.frombuffer(text if isinstance(text, bytes) else (text or "").encode(), np.uint8)
        assert 0 <= classifier.probability(data) <= 1
    assert [classifier.probability(utf8(text)) for text in ("", " \n\t", "...!?")] == [0, 0, 0]
    for text in (*PARAGRAPHS.values(), document("cooking", 0)):
        places, values = features_of(utf8(text))
        assert len(places) > 10 and values @ values == pytest.approx(1)


def test_texts_that_cannot_be_distinguished_are_reported(learn, tmp_path, caplog):
    learn(tmp_path, texts("cooking", 80), texts("cooking", 80, first=100))
    assert "web and mine have too similar words (AUC 0." in caplog.text
    with pytest.raises(UserError, match="the corpus to be filtered has 3 different documents with words"):
        learn(tmp_path, texts("cooking", 60), texts("sailing", 3) * 50)


def test_a_damaged_classifier_is_named(tmp_path):
    np.save(tmp_path / "similarity.npy", np.zeros(3, np.float32))
    with pytest.raises(DamagedFileError, match="not the weights of a classifier; delete it"):
        Similarity(tmp_path / "similarity.npy")


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (
            {"similarity": {"minimum": 0.5}},
            "similarity.to: fineweb_edu can't be filtered by similarity to it",
        ),
        ({"similarity": {"minimum": 0.5, "to": "min"}}, "fineweb_edu.where.similarity.to: there is no 'min'"),
        ({"similarity": {"minimum": 0.5, "to": "talk"}}, "to: talk holds conversations, whose words aren't"),
        ({"similarity": {"minimum": 50}}, "similarity: a probability, from 0 to 1, but 50 was given"),
        ({"similarity": {"to": "mine"}}, "where.similarity: set minimum, maximum or both"),
        ({"score": {"minimum": 3, "to": "mine"}}, "score: `to` is for `similarity` alone; remove it"),
        ({"similarity": {"in": ["en"]}}, "similarity: `in` is for `language`"),
    ],
)
def test_what_the_config_refuses(where, message):
    mine = {"source": "local", "files": "*.txt"}
    talk = {"source": "local", "files": "*.jsonl", "conversations": True}
    corpora = {"fineweb_edu": {"where": where}, "mine": mine, "talk": talk}
    with pytest.raises(UserError, match=message):
        load(merged({"corpora": corpora}))


def test_the_other_corpus_is_the_domain_unless_it_is_named():
    config = yaml.safe_load((SCRIPTS.parent / "config.yaml").read_text())
    config["corpora"]["mine"] = {"source": "local", "files": "*.txt"}
    config["corpora"]["fineweb_edu"]["where"] = {"similarity": {"minimum": 0.5, "to": "mine"}}
    loaded = load(config)
    assert similar_corpora(loaded.corpora, loaded.domain) == {"fineweb_edu": "mine"}
    config["corpora"]["fineweb_edu"]["where"] = {"similarity": {"minimum": 0.5}}
    loaded = load({**config, "domain": "mine"})
    assert similar_corpora(loaded.corpora, loaded.domain) == {"fineweb_edu": "mine"}
