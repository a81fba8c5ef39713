"""What the corpus tests share: the config's filters, a tiny model folder, parquet files."""

import copy
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from cpt.config import load

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def config_filters() -> dict:
    """The config's `filters`. The tests' tokenizers have small vocabularies, so short tokens are allowed."""
    filters = load(yaml.safe_load((ROOT / "config.yaml").read_text())).filters.model_dump()
    filters["token_quality"]["minimum_bytes_per_token"] = 1.0
    return filters


@pytest.fixture
def filters(config_filters) -> dict:
    """A copy of the config's filters that a test may change."""
    return copy.deepcopy(config_filters)


@pytest.fixture(scope="session")
def save_model():
    """save_model(folder, tokenizer, ...) writes the files of a model folder that the corpus stages read."""

    def save(folder: Path, tokenizer: Tokenizer, **config) -> Path:
        folder.mkdir()
        tokenizer.save(str(folder / "tokenizer.json"))
        settings = {"eos_token_id": 0, "vocab_size": tokenizer.get_vocab_size(), **config}
        (folder / "config.json").write_text(json.dumps(settings))
        return folder

    return save


@pytest.fixture(scope="session")
def byte_level() -> Tokenizer:
    """A byte-level BPE tokenizer like GPT-2's: words are split by a pattern first."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["the rain in the plain is the same rain again and again"] * 5, trainer)
    return tokenizer


@pytest.fixture(scope="session")
def model_folder(save_model, byte_level, tmp_path_factory) -> Path:
    return save_model(tmp_path_factory.mktemp("models") / "base", byte_level)


@pytest.fixture(scope="session")
def save_table():
    """save_table(path, {column: values}) writes a parquet file, folders included."""

    def save(path: Path, columns: dict) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), path)
        return path

    return save
