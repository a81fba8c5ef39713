"""What the corpus tests share: a way to run scripts, a tiny model folder, settings."""

import copy
import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
FILTERS = {
    "length": {"minimum_lines": 3, "short_line_characters": 30, "maximum_short_line_share": 0.67},
    "repetition": {
        "duplicate_line_share": 0.30,
        "duplicate_paragraph_share": 0.30,
        "duplicate_line_character_share": 0.20,
        "duplicate_paragraph_character_share": 0.20,
        "top_ngram_character_share": {"2": 0.20, "3": 0.18, "4": 0.16},
        "duplicate_ngram_character_share": {
            "5": 0.15,
            "6": 0.14,
            "7": 0.13,
            "8": 0.12,
            "9": 0.11,
            "10": 0.10,
        },
    },
    "token_quality": {
        "minimum_bytes_per_token": 1.0,
        "maximum_bytes_per_token": 12.0,
        "maximum_unknown_share": 0.01,
        "minimum_distinct_share": 0.05,
        "maximum_run_tokens": 100,
    },
}


@pytest.fixture(scope="session")
def config_filters() -> dict:
    """The config's `filters`, as the scripts get them: through JSON, so with strings as keys."""
    return json.loads(json.dumps(FILTERS))


@pytest.fixture
def filters(config_filters) -> dict:
    """A copy of them, to be changed."""
    return copy.deepcopy(config_filters)


@pytest.fixture(scope="session")
def script():
    """script("pack", name="x", ...) runs a script; returns the finished process."""

    def call(name: str, /, **arguments) -> subprocess.CompletedProcess:
        command = [sys.executable, str(SCRIPTS / f"{name}.py")]
        for key, value in arguments.items():
            command.append(f"--{key.replace('_', '-')}")
            if isinstance(value, list):
                command += map(str, value)
            else:
                command.append(json.dumps(value) if isinstance(value, dict) else str(value))
        return subprocess.run(command, capture_output=True, text=True)

    return call


@pytest.fixture(scope="session")
def save_model():
    """save_model(folder, tokenizer, ...) writes what the corpus stages read of a model folder."""

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
