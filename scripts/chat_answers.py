import json
from importlib import metadata
from pathlib import Path

from cpt import command
from cpt.command import run
from cpt.digest import settings_digest
from cpt.evaluate.answers import PACKAGES, remove_former
from cpt.evaluate.generation import Generator, Request
from cpt.evaluate.instructions import PROMPTS, follows
from cpt.evaluate.model import Device, load_model, out_of_memory_explained
from cpt.files import write_text
from cpt.model_folders import weights_digest
from cpt.prompts import Prompt, encode_prompts, read_prompts


def chat_answers(
    model: Path,
    answers: Path,
    kept: Path,
    max_new_tokens: int,
    batch_size: int,
    precision: str,
    prompts: Path | None = None,
    device: Device = "cuda",
    threads: int = 1,
) -> None:
    """Let a model answer prompts greedily, through its own chat template.

    Args:
        model: Hugging Face model folder.
        answers: JSON lines to write, one for each prompt.
        kept: folder for finished answers; a job that resumes generates only the rest.
        max_new_tokens: most tokens of an answer.
        batch_size: answers per batch.
        precision: precision of weights and layers, float32 or bf16.
        prompts: file of prompts (.txt or .jsonl); default: built-in ones, whose answers can be checked.
        device: where the model runs; without a GPU, cuda is refused.
        threads: number of threads, on a CPU.
    """
    if prompts is None:
        questions = [Prompt([{"role": "user", "content": entry.prompt}], entry.kind) for entry in PROMPTS]
        kinds = [entry.kind for entry in PROMPTS]
    else:
        questions = read_prompts(prompts)
        kinds = [None] * len(questions)
    loaded, tokenizer = load_model(model, precision, threads, device)
    room = loaded.config.max_position_embeddings - max_new_tokens
    encoded, templated = encode_prompts(questions, model, tokenizer, room)
    versions = [metadata.version(package) for package in PACKAGES]
    digest = settings_digest([weights_digest(model), precision, command.code, versions])
    file = kept / f"{answers.stem}.{digest}.jsonl"
    generator = Generator(loaded, tokenizer, batch_size, file, answers.stem)
    with out_of_memory_explained("chat.batch_size", batch_size):
        completions = generator.generate([Request(ids, max_new_tokens) for ids in encoded])
    lines = []
    for prompt, kind, completion in zip(questions, kinds, completions, strict=True):
        row = {
            "place": prompt.place,
            "prompt": prompt.text,
            "answer": completion.text,
            "tokens": len(completion.tokens),
            "stopped": completion.ending == "eos",
            "template": templated,
        }
        if kind is not None:
            row |= {"kind": kind, "followed": follows(kind, completion.text)}
        lines.append(json.dumps(row, ensure_ascii=False))
    write_text(answers, "\n".join(lines) + "\n")
    remove_former(file, answers.stem)


if __name__ == "__main__":
    run(chat_answers)
