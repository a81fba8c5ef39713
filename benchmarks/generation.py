import logging
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from cpt.command import run
from cpt.evaluate.generation import Generator, Request
from cpt.evaluate.instructions import PROMPTS
from cpt.evaluate.model import load_model
from cpt.files import write_text
from cpt.templates import chat_template, chat_templates

# lm-eval after the evaluate wing, which turns the hub's client off.
from lm_eval.api.instance import Instance  # isort: skip
from lm_eval.models.huggingface import HFLM  # isort: skip

SPEED_BAR = 1.0


def time_answers(answer: Callable[..., list[Any]], *arguments: Any) -> tuple[float, list[Any]]:
    """Returns the seconds that answering takes (CPU time; on a GPU wall time), and the answers."""
    gpu = torch.cuda.is_available()
    clock: Callable[[], float] = time.perf_counter if gpu else time.process_time
    begin = clock()
    answers = answer(*arguments)
    if gpu:
        torch.cuda.synchronize()
    return clock() - begin, answers


def generation(
    model: Path,
    table: Path,
    prompts: int = 28,
    max_new_tokens: int = 64,
    batch_sizes: list[int] = (4, 8, 16),
    repeats: int = 3,
    threads: int = 1,
) -> None:
    """Measure how fast a model generates, beside lm-eval's own model class, and whether their texts agree.

    `ours` is cpt.evaluate.generation, `lm-eval` the method generate_until of its HFLM, which calls
    transformers' `generate` on batches padded on the left. Both get the same texts through the model's chat
    template, the same weights in float32 and the same limit. They take turns, and the medians of the repeats
    count. For both, tokens are those of our answers. Time is CPU time on a CPU, wall time on a GPU.

    Args:
        model: Hugging Face model folder.
        table: CSV file to write.
        prompts: number of prompts.
        max_new_tokens: most tokens of an answer.
        batch_sizes: prompts per batch.
        repeats: runs of each system.
        threads: CPU threads.
    """
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    loaded, tokenizer = load_model(model, "float32", threads, "cuda" if torch.cuda.is_available() else "cpu")
    tokenizer.backend_tokenizer.encode_special_tokens = False  # as in HFLM
    texts = [example.prompt for example in PROMPTS[:prompts]]
    if chat_templates(model):
        template = chat_template(model)
        texts = [
            template.render([{"role": "user", "content": text}], add_generation_prompt=True) for text in texts
        ]
    ids = [tuple(tokenizer.encode(text, add_special_tokens=False)) for text in texts]
    requests = [Request(prompt, max_new_tokens) for prompt in ids]
    settings = {"until": [], "max_gen_toks": max_new_tokens, "do_sample": False}
    instances = [Instance("generate_until", {}, (text, settings), at) for at, text in enumerate(texts)]
    count = sum(len(completion.tokens) for completion in Generator(loaded, tokenizer, 16).generate(requests))
    lines = ["system,batch_size,tokens_per_second,ratio,same_texts"]
    for size in batch_sizes:
        ours = Generator(loaded, tokenizer, size)
        theirs = HFLM(pretrained=loaded, tokenizer=tokenizer, batch_size=size, add_bos_token=False)
        seconds: dict[str, list[float]] = {"ours": [], "lm-eval": []}
        for _ in range(repeats):
            duration, answers = time_answers(ours.generate, requests)
            seconds["ours"].append(duration)
            duration, others = time_answers(theirs.generate_until, instances, True)
            seconds["lm-eval"].append(duration)
            logging.info(f"batches of {size}: {', '.join(f'{n} {t[-1]:.2f} s' for n, t in seconds.items())}")
        same = sum(one.text == other for one, other in zip(answers, others, strict=True))
        rates = {name: count / statistics.median(each) for name, each in seconds.items()}
        ratio = rates["ours"] / rates["lm-eval"]
        lines.append(f"ours,{size},{rates['ours']:.1f},{ratio:.2f},{same}/{len(texts)}")
        lines.append(f"lm-eval,{size},{rates['lm-eval']:.1f},1,")
        logging.info("\n".join(lines[-2:]))
        logging.info(f"batches of {size}: {ratio:.2f} times lm-eval's rate (at least {SPEED_BAR:.1f})")
    write_text(table, "\n".join(lines) + "\n")


if __name__ == "__main__":
    run(generation)
