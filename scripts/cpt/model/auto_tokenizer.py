"""Whether AutoTokenizer, which users load a tokenizer with, gives the ids of tokenizer.json.

transformers 5 lays its own class over the tokenizer of some model types, such as qwen2, whatever the folder
says.
"""

from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerFast

PROBES = (
    " The quick  brown fox,\n\n\tjumps over 1234567890 lazy dogs' (it's they'LL)...",
    "naïve café cafe\u0301 Größe, 漢字かな交じり, русский текст, עברית, हिन्दी, 😀👩\u200d🔬\r\n",
    "def f(x):\n    if x  >  1:\n\t\treturn   x ** 2          # ten spaces\n\n\n",
)


def auto_tokenizer_agrees(folder: Path) -> bool:
    """Compare the two on texts in which tokenizers tend to differ, and on all special tokens."""
    ours, theirs = (kind.from_pretrained(folder) for kind in (PreTrainedTokenizerFast, AutoTokenizer))
    special = "".join(token.content for token in ours.added_tokens_decoder.values())
    return all(ours(text)["input_ids"] == theirs(text)["input_ids"] for text in (*PROBES, special))
