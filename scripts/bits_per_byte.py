from pathlib import Path

from cpt.command import run
from cpt.cpu import set_up_products
from cpt.evaluate import bits
from cpt.evaluate.model import Device, load_model, out_of_memory_explained
from cpt.files import write_json, write_text
from cpt.model_folders import weights_digest
from cpt.provenance import provenance
from cpt.token_windows import load_held_out


def bits_per_byte(
    model: Path,
    held_out: Path,
    scores: Path,
    losses: Path,
    corpus: str,
    sequence_length: int,
    batch_size: int,
    precision: str,
    device: Device = "cuda",
    threads: int = 1,
) -> None:
    """Measure how well a model predicts the held-out text of one corpus: loss and bits per byte.

    Args:
        model: Hugging Face model folder.
        held_out: held-out tokens (.npz).
        scores: result (JSON) to write.
        losses: loss of each document (CSV), to write.
        corpus: the corpus's name, for the result.
        sequence_length: most tokens in a window of a document.
        batch_size: windows per batch.
        precision: precision of weights and layers, float32 or bf16.
        device: where the model runs; without a GPU, cuda is refused.
        threads: number of threads, on a CPU.
    """
    set_up_products()
    loaded, _ = load_model(model, precision, threads, device)
    with out_of_memory_explained("evaluate.batch_size", batch_size):
        tokens = load_held_out(held_out)
        document_losses = bits.document_losses(loaded, tokens, sequence_length, batch_size)
    settings = {"sequence_length": sequence_length, "batch_size": batch_size, "precision": precision}
    result = {
        "corpus": corpus,
        **bits.summary(tokens, document_losses),
        "settings": settings,
        "model_sha256": weights_digest(model),
        "provenance": provenance({**settings, "corpus": corpus}),
    }
    write_text(losses, bits.table_of(tokens, document_losses))
    write_json(scores, result)


if __name__ == "__main__":
    run(bits_per_byte)
