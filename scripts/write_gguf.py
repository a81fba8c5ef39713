from pathlib import Path

from cpt.command import run as run_stage
from cpt.files import atomic, sha256_of, write_json
from cpt.gguf_types import GgufType
from cpt.model.gguf_file import write_gguf as write
from cpt.provenance import provenance


def write_gguf(run: str, model: Path, file: Path, report: Path, kind: GgufType) -> None:
    """Write a model as a GGUF file, for llama.cpp and Ollama.

    Args:
        run: name of the run, which the file carries.
        model: model folder of the run.
        file: GGUF file to write.
        report: what it holds, to write (JSON).
        kind: f16, q8_0 or q4_k_m.
    """
    with atomic(file) as path:
        facts = write(model, kind, path, run)
    facts |= {"kind": kind, "bytes": file.stat().st_size, "sha256": sha256_of(file)}
    write_json(report, {**facts, "provenance": provenance({"kind": kind})})


if __name__ == "__main__":
    run_stage(write_gguf)
