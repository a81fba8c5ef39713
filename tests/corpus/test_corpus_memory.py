"""The stages process one long line with less than 1 GB of memory."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from stages import TOKENIZED, files

from cpt.config_sections import Filters, HeldOut
from cpt.stage import arguments

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
MEASURED = """
import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    with open("/proc/self/status") as status:
        print("peak", next(line.split()[1] for line in status if line.startswith("VmHWM")))
"""


def words(size: int) -> str:
    """Random words of four letters, so that hardly any 5-gram repeats."""
    letters = np.random.default_rng(0).integers(97, 123, (size // 5, 5), np.uint8)
    letters[:, 4] = 32
    return letters.tobytes().decode()


def punctuation(size: int) -> str:
    return np.random.default_rng(0).choice(np.frombuffer(b".,;:!?()[]", np.uint8), size).tobytes().decode()


def peak_megabytes(name: str, **options) -> float:
    """Peak memory of a script."""
    command = [sys.executable, "-c", MEASURED, str(SCRIPTS / f"{name}.py"), *arguments(**options)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=SCRIPTS)
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split("peak ")[1]) * 1024 / 1e6


@pytest.mark.parametrize(("make", "megabytes"), [(words, 100), (punctuation, 8)])
def test_filter(save_table, tmp_path, filters, make, megabytes):
    text = make(megabytes * 1_000_000)
    raw = save_table(tmp_path / "raw.parquet", {"id": ["long"], "text": [text]})
    filters["length"]["minimum_lines"] = 1
    peak = peak_megabytes(
        "filter_documents",
        raw=raw,
        text_column="text",
        where={},
        filters=Filters.model_validate(filters).document_filters,
        normalize="whitespace",
        **{name: tmp_path / name for name in ("documents", "drops", "examples")},
    )
    assert peak < (1000 if megabytes == 100 else 500)
    assert "read,1," in (tmp_path / "drops").read_text()


def test_tokenize(save_table, tmp_path, filters, model_folder):
    """A long text is encoded in windows, so memory holds these, the tokens and a few copies of the text."""
    filters["token_quality"]["minimum_bytes_per_token"] = 0.5
    columns = {"row": [0], "id": ["long"], "url": ["u"], "text": [words(3_000_000)]}
    filtered = save_table(tmp_path / "filtered.parquet", columns)
    np.save(tmp_path / "keep.npy", np.ones(1, bool))
    peak = peak_megabytes(
        "tokenize_documents",
        documents=filtered,
        keep=tmp_path / "keep.npy",
        model=model_folder,
        thresholds=Filters.model_validate(filters).token_quality,
        split=HeldOut(share=0.0, group_by="url"),
        **files(tmp_path / "0", TOKENIZED),
    )
    assert peak < 500
