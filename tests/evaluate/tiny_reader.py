"""A tiny model that has read the facts of task_data.py, with a tokenizer that merges bytes."""

from pathlib import Path

import task_facts
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

CONTEXT = 4096


def texts() -> list[str]:
    """What the model reads: questions with their answers in some prompts' forms, and sentences."""
    pools = (getattr(task_facts, name) for name in ("ENGLISH", "GERMAN", "FRENCH", "ITALIAN", "CHINESE"))
    facts = [fact for pool in pools for fact in pool]
    questions = [f"Question: {f.question}\nAnswer: {f.right}\n\n" for f in facts]
    questions += [f"Q: {f.question}\nA: {f.right}.\n" for f in facts]
    sums = ((s.text, f"{s.a} + {s.b}", s.a + s.b) for s in task_facts.SUMS)
    solved = [f"Question: {text} How many?\nAnswer: {way} = {n}\n#### {n}\n\n" for text, way, n in sums]
    return questions + solved + [f"{f.sentence} " for f in facts]


def tokenizer(bos: bool) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer; with `bos`, one that begins texts with <s>."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    settings = {"special_tokens": ["<s>", "</s>"], "initial_alphabet": pre_tokenizers.ByteLevel.alphabet()}
    trainer = trainers.BpeTrainer(vocab_size=700, show_progress=False, **settings)
    inner.train_from_iterator(texts(), trainer)
    special_tokens = {"eos_token": "</s>", "pad_token": "</s>"}
    if bos:
        inner.post_processor = processors.TemplateProcessing("<s> $A", "<s> $A $B", [("<s>", 0)])
        special_tokens["bos_token"] = "<s>"
    return PreTrainedTokenizerFast(tokenizer_object=inner, **special_tokens)


def model(steps: int = 150) -> LlamaForCausalLM:
    """A Llama of two layers, trained for `steps` steps; the same on every machine except for rounding."""
    torch.manual_seed(0)
    shape = {"hidden_size": 64, "intermediate_size": 192, "num_hidden_layers": 2, "num_attention_heads": 4}
    ends = {"bos_token_id": None, "eos_token_id": 1}
    config = LlamaConfig(vocab_size=700, max_position_embeddings=CONTEXT, **ends, **shape)
    reader = LlamaForCausalLM(config)
    optimizer = torch.optim.AdamW(reader.parameters(), 4e-3)
    encode = tokenizer(bos=False).backend_tokenizer.encode
    documents = [encode(text).ids for text in texts()]
    for _ in range(steps):
        ids: list[int] = []
        while len(ids) < 1024:
            ids += documents[int(torch.randint(len(documents), ()))]
        batch = torch.tensor(ids[:1024]).view(8, 128)
        reader(input_ids=batch, labels=batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return reader.eval()


def save(reader: LlamaForCausalLM, folder: Path, bos: bool, context: int) -> None:
    """Write a model folder with this context length and a tokenizer with or without BOS."""
    tokenizer(bos).save_pretrained(folder)
    reader.config.max_position_embeddings = context
    reader.config.bos_token_id = reader.generation_config.bos_token_id = 0 if bos else None
    reader.save_pretrained(folder)
