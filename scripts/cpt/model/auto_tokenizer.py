"""Checks whether AutoTokenizer, with which users load a tokenizer, gives the ids of tokenizer.json.

For some model types, such as qwen2, transformers 5 uses its own tokenizer class regardless of the folder.
"""

from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerFast

PROBES = (
    " The quick  brown fox,\n\n\tjumps over 1234567890 lazy dogs' (it's they'LL)...",
    "naïve café cafe\u0301 Größe, 漢字かな交じり, русский текст, עברית, हिन्दी, 😀👩\u200d🔬\r\n",
    "def f(x):\n    if x  >  1:\n\t\treturn   x ** 2          # ten spaces\n\n\n",
)


def auto_tokenizer_agrees(folder: Path) -> bool:
    """Whether both give the same ids for texts on which tokenizers often differ, and all special tokens."""
    ours, theirs = (kind.from_pretrained(folder) for kind in (PreTrainedTokenizerFast, AutoTokenizer))
    special = "".join(token.content for token in ours.added_tokens_decoder.values())
    return all(ours(text)["input_ids"] == theirs(text)["input_ids"] for text in (*PROBES, special))
