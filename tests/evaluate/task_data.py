"""Made-up rows of the data sets that lm-eval's tasks read, each in its data set's own schema.

All rows are made from a few short facts (task_facts.py), so that a tiny model can learn some of them.
"""

import gzip
import json

from task_choices import CHOICES
from task_facts import (
    ALL,
    ENGLISH,
    GERMAN,
    NAMES,
    SUMS,
    USUAL,
    Fact,
    Make,
    Row,
    Sources,
    Sum,
    abcd,
    rows_of,
)


def _drop(s: Sum, n: int) -> Row:
    date, none = {"day": "", "month": "", "year": ""}, {"number": [""], "date": [], "spans": [["apples"]]}
    answer = {"number": str(s.a + s.b), "date": date, "spans": [], "worker_id": "w", "hit_id": "h"}
    return {"section_id": "s", "query_id": f"q{n}", "passage": s.text, "question": "How many are there?"} | {
        "answer": answer,
        "validated_answers": none | {"date": [date], "worker_id": ["w"], "hit_id": ["h"]},
    }


def _eq(f: Fact, n: int) -> Row:
    scores = {f"emotion{k}_score": (n + k) % 10 for k in range(1, 5)}
    feelings = dict(zip((f"emotion{k}" for k in range(1, 5)), ("Joy", "Fear", "Pride", "Anger"), strict=True))
    prompt = f"{NAMES[n]} reads: {f.sentence}\nJoy: {n}\nFear: 2\nPride: 3\nAnger: 4\nJoy: {n}\nFear:"
    return {"prompt": prompt, "reference_answer_fullscale": repr(feelings | scores)}


def _cloze(f: Fact, _: int) -> Row:
    """A passage that ends with its right answer and mentions it before."""
    return {"text": f"{f.sentence} {f.sentence} {f.question} It was {f.right}"}


def _math(s: Sum, n: int) -> Row:
    solution = f"We add: ${s.a}+{s.b}=\\boxed{{{s.a + s.b}}}$."
    return {"problem": f"What is ${s.a}+{s.b}$?", "solution": solution, "level": "Level 1", "type": "Algebra"}


def _gsm(s: Sum, n: int) -> Row:
    total = s.a + s.b
    return {
        "question": f"{s.text} How many apples are there?",
        "answer": f"{s.a} + {s.b} = {total}\n#### {total}",
    }


def _mgsm(s: Sum, n: int) -> Row:
    question = f"{s.who} hat {s.a} Äpfel und kauft {s.b}. Wie viele sind es?"
    solved = f"Schritt-für-Schritt-Antwort: {s.a} + {s.b} = {s.a + s.b}." if n % 2 else None
    return {"question": question, "answer": solved, "answer_number": s.a + s.b, "equation_solution": None}


def _triviaqa(f: Fact, n: int) -> Row:
    aliases = [f.right, f"the {f.right}"]
    return {
        "question": f.question.rstrip("?"),
        "question_id": str(n),
        "answer": {"value": f.right, "aliases": aliases},
    }


def _texts(f: Fact, n: int) -> Row:
    """A document of a few sentences, with what detokenizers look for."""
    lines = [f" = {f.right} = ", f" {f.sentence} It is the farm 's , ( they say ) : {n} @,@ 000 . "]
    return {
        "text": f"{f.sentence} {f.question} It is {f.right}.\n" * (1 + n % 3) * 4,
        "page": "\n".join(lines * 2),
    }


def _only(make: Make, *names: str) -> Make:
    """`make` with these columns only."""
    return lambda entry, number: {name: make(entry, number)[name] for name in names}


# Like CHOICES, for tasks with generated answers and for texts.
FURTHER: Sources = {
    ("EleutherAI/lambada_openai", "default"): (_cloze, ENGLISH, ("test",)),
    ("EleutherAI/lambada_openai", "de"): (_cloze, GERMAN, ("test",)),
    ("cimec/lambada", "default"): (
        lambda f, n: {"text": _cloze(f, n)["text"].lower().replace(".", " ."), "domain": "farm"},
        ENGLISH,
        ("train", "validation", "test"),
    ),
    ("EleutherAI/asdiv", "default"): (
        lambda s, n: (
            {"body": s.text, "question": "How many apples?", "answer": f"{s.a + s.b} (apples)"}
            | {"solution_type": "Addition", "formula": f"{s.a}+{s.b}={s.a + s.b}"}
        ),
        SUMS,
        ("validation",),
    ),
    ("EleutherAI/wikitext_document_level", "wikitext-2-raw-v1"): (_only(_texts, "page"), ENGLISH, ALL),
    ("NeelNanda/pile-10k", "default"): (
        lambda f, n: _only(_texts, "text")(f, n) | {"meta": {"pile_set_name": "Books3"}},
        ENGLISH,
        ("train",),
    ),
    ("allenai/paloma", "c4_en"): (
        lambda f, n: _only(_texts, "text")(f, n) | {"id": str(n), "source": "c4"},
        ENGLISH,
        ("val", "test"),
    ),
    ("openai/gsm8k", "main"): (_gsm, SUMS, ("train", "test")),
    ("mandarjoshi/trivia_qa", "rc.nocontext"): (_triviaqa, ENGLISH, USUAL),
    ("google-research-datasets/nq_open", "default"): (
        lambda f, n: {
            "question": f.question.lower().rstrip("?"),
            "answer": [f.right, f"the {f.right}"][: 1 + n % 2],
        },
        ENGLISH,
        USUAL,
    ),
    ("EleutherAI/drop", "default"): (_drop, SUMS, USUAL),
    **{
        (f"hazyresearch/based-{name}", "default"): (
            lambda f, n: (
                {"doc_id": str(n), "title": "", "context": f.sentence, "question": f.question}
                | {"value": f.right, "text": f"{f.sentence} {f.sentence.split(f.right)[0]}"}
            ),
            ENGLISH,
            ("validation",),
        )
        for name in ("squad", "fda", "swde-v2")
    },
    **{
        ("SaylorTwift/bbh", name): (
            lambda f, n: {"input": f"not ( {n % 2 == 0} ) and True is", "target": str(n % 2 == 1)},
            ENGLISH,
            ("test",),
        )
        for name in ("boolean_expressions", "navigate")
    },
    ("EleutherAI/hendrycks_math", "algebra"): (_math, SUMS, ("train", "test")),
    ("pbevan11/EQ-Bench", "default"): (_eq, ENGLISH, ("validation",)),
    ("Muennighoff/babi", "default"): (
        lambda f, n: (
            {"passage": f"{NAMES[n]} went to the mill.\n", "question": f"Where is {NAMES[n]}?"}
            | {"answer": "mill", "task": 1}
        ),
        ENGLISH,
        ("train", "valid", "test"),
    ),
    ("EleutherAI/unscramble", "mid_word_1_anagrams"): (
        lambda f, n: {
            "context": f"Please unscramble: {f.right[0]}{f.right[:0:-1]} =",
            "completion": f" {f.right}",
        },
        ENGLISH,
        ("validation",),
    ),
    ("juletxara/mgsm", "de"): (_mgsm, SUMS, ("train", "test")),
    ("wmt/wmt16", "ro-en"): (
        lambda f, n: {"translation": {"en": f.sentence, "ro": f.sentence.upper()}},
        ENGLISH,
        ALL,
    ),
}


def tables() -> dict[str, dict[str, dict[str, list[Row]]]]:
    """All rows: repository, configuration, split."""
    repositories: dict[str, dict[str, dict[str, list[Row]]]] = {}
    for (repository, configuration), (make, pool, splits) in {**CHOICES, **FURTHER}.items():
        splitted = {split: rows_of(make, pool, split) for split in splits}
        repositories.setdefault(repository, {})[configuration] = splitted
    return repositories


def _lines(rows: list[Row]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def files() -> dict[str, dict[str, bytes]]:
    """The data sets that tasks read as plain files: repository, path, bytes."""
    sums = [{"context": f"Q: What is {s.a} plus {s.b}?\n\nA:", "completion": f" {s.a + s.b}"} for s in SUMS]
    prost = [
        {"context": f.sentence, "ex_question": f.question, "label": n % 4, **abcd(f, n)}
        for n, f in enumerate(ENGLISH[:10])
    ]
    pages = [_only(_texts, "text")(f, n) | {"url": "", "timestamp": ""} for n, f in enumerate(ENGLISH)]
    c4 = {
        f"en/c4-{name}.json.gz": gzip.compress(_lines(rows), mtime=0)
        for name, rows in (("train.00000-of-01024", pages[:10]), ("validation.00000-of-00008", pages[10:]))
    }
    c4["README.md"] = b"---\nconfigs: [{config_name: en, data_files: [{split: train, path: en/*}]}]\n---\n"
    return {
        "EleutherAI/arithmetic": {"data/two_digit_addition.jsonl": _lines(sums)},
        "corypaik/prost": {"data/default.jsonl": _lines(prost)},
        "allenai/c4": c4,
    }
