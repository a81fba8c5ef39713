"""Ids and logits of a GGUF file from llama.cpp itself: the library inside the wheel of xllamacpp.

Runs as a separate process, because llama.cpp ends the process if a file is wrong:
`python llama_cpp.py LIBRARY FILE QUESTIONS ANSWERS`. Questions are JSON ({"texts": [...], "ids": [[...]]}),
answers an .npz with `tokens` (all texts' ids), `lengths`, `logits` [rows, length, vocabulary], `ends`.
"""

import ctypes
import json
import sys
from pathlib import Path

import numpy as np

ROOM = 1024  # bytes: more than the parameters of a model or a context have


class Parameters(ctypes.Structure):
    """llama_context_params and llama_model_params: the first fields of the one, and room for the others."""

    _fields_ = [(name, ctypes.c_uint32) for name in ("n_ctx", "n_batch", "n_ubatch", "n_seq_max")]
    _fields_ += [("rest", ctypes.c_uint64 * (ROOM // 8))]


class Batch(ctypes.Structure):
    """llama_batch."""

    _fields_ = [("n_tokens", ctypes.c_int32), ("token", ctypes.POINTER(ctypes.c_int32))]
    _fields_ += [(name, ctypes.c_void_p) for name in ("embd", "pos", "n_seq_id", "seq_id", "logits")]


LOG = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)


@LOG
def show_errors(level, text, _):
    if level >= 4:
        sys.stderr.write(text.decode(errors="replace"))


def open_library(path):
    library = ctypes.CDLL(path)
    pointer, number = ctypes.c_void_p, ctypes.c_int32
    for name, result, arguments in (
        ("llama_model_default_params", Parameters, []),
        ("llama_context_default_params", Parameters, []),
        ("llama_model_load_from_file", pointer, [ctypes.c_char_p, Parameters]),
        ("llama_init_from_model", pointer, [pointer, Parameters]),
        ("llama_model_get_vocab", pointer, [pointer]),
        ("llama_vocab_n_tokens", number, [pointer]),
        ("llama_vocab_is_eog", ctypes.c_bool, [pointer, number]),
        (
            "llama_tokenize",
            number,
            [pointer, ctypes.c_char_p, number, pointer, number, ctypes.c_bool, ctypes.c_bool],
        ),
        ("llama_batch_init", Batch, [number, number, number]),
        ("llama_decode", number, [pointer, Batch]),
        ("llama_get_logits", ctypes.POINTER(ctypes.c_float), [pointer]),
        ("llama_free", None, [pointer]),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    library.llama_log_set(show_errors, None)
    library.llama_backend_init()
    return library


def tokenize(library, vocabulary, text):
    data = text.encode()
    ids = (ctypes.c_int32 * (len(data) + 8))()
    count = library.llama_tokenize(vocabulary, data, len(data), ids, len(ids), True, True)
    assert count >= 0, text
    return list(ids[:count])


def logits(library, model, ids, vocabulary_size):
    """float32 [length, vocabulary] of one text."""
    settings = library.llama_context_default_params()
    settings.n_ctx = settings.n_batch = settings.n_ubatch = 512
    context = library.llama_init_from_model(model, settings)
    batch = library.llama_batch_init(len(ids), 0, 1)
    batch.n_tokens = len(ids)
    for name, kind, values in (
        ("pos", ctypes.c_int32, range(len(ids))),
        ("n_seq_id", ctypes.c_int32, [1] * len(ids)),
        ("logits", ctypes.c_int8, [1] * len(ids)),
    ):
        ctypes.memmove(getattr(batch, name), (kind * len(ids))(*values), ctypes.sizeof(kind) * len(ids))
    rows = ctypes.cast(batch.seq_id, ctypes.POINTER(ctypes.POINTER(ctypes.c_int32)))
    for i, id in enumerate(ids):
        batch.token[i], rows[i][0] = id, 0
    assert library.llama_decode(context, batch) == 0
    array = np.ctypeslib.as_array(library.llama_get_logits(context), (len(ids), vocabulary_size)).copy()
    library.llama_free(context)
    return array


def main(path, file, questions, answers):
    library = open_library(path)
    model = library.llama_model_load_from_file(file.encode(), library.llama_model_default_params())
    assert model, f"llama.cpp can't load {file}"
    vocabulary = library.llama_model_get_vocab(model)
    size = library.llama_vocab_n_tokens(vocabulary)
    inputs = json.loads(Path(questions).read_text())
    ids = [tokenize(library, vocabulary, text) for text in inputs["texts"]]
    np.savez(
        answers,
        tokens=np.array([id for text in ids for id in text], np.int32),
        lengths=np.array([len(text) for text in ids], np.int32),
        logits=np.array([logits(library, model, row, size) for row in inputs["ids"]], np.float32),
        ends=np.array([id for id in range(size) if library.llama_vocab_is_eog(vocabulary, id)]),
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
