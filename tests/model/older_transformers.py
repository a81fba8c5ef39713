"""What another version of transformers reads from model folders, in a separate process.

`python older_transformers.py QUESTIONS ANSWERS`. Questions are JSON ({"folders": [], "texts": [], "ids":
[[]], "messages": []}), answers a folder with an .npy of each folder's logits and facts.json.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig


def read(folder, inputs):
    """Version-independent facts of a folder, and its logits."""
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor(inputs["ids"])).logits.numpy()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    generation = GenerationConfig.from_pretrained(folder)
    facts = {
        "ids": [tokenizer(text)["input_ids"] for text in inputs["texts"]],
        "decoded": [tokenizer.decode(row) for row in inputs["ids"]],
        "special": [tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id],
        "length": tokenizer.model_max_length,
        "side": tokenizer.padding_side,
        "ends": generation.eos_token_id,
        "sampling": [generation.do_sample, generation.temperature],
        "chat": tokenizer.apply_chat_template(inputs["messages"], tokenize=False, add_generation_prompt=True)
        if tokenizer.chat_template
        else None,
    }
    return facts, logits


def main(questions, answers):
    torch.set_num_threads(1)
    inputs = json.loads(Path(questions).read_text())
    facts = {"version": transformers.__version__, "folders": {}}
    for folder in map(Path, inputs["folders"]):
        facts["folders"][folder.name], logits = read(folder, inputs)
        np.save(Path(answers) / f"{folder.name}.npy", logits)
    (Path(answers) / "facts.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    main(*sys.argv[1:])
