"""A made-up experiment on disk, in the shapes that the other wings write."""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from answers import answers
from claims import claims
from comparisons import comparisons
from cpt.config_evaluate import Task
from cpt.config_sections import Filters
from cpt.report.claims import claim_rows, read_claims
from cpt.report.runs import read_runs
from cpt.report.scores import read_published, read_scores
from cpt.token_windows import HeldOut
from letters import letters
from runs import runs as table_of_runs
from scores import scores
from touched import touched

REPOSITORY = Path(__file__).resolve().parents[2]
CLAIMS = REPOSITORY / "paper" / "claims.yaml"
PUBLISHED = REPOSITORY / "paper" / "published.csv"
FULL = {
    "mmlu": 14042,
    "arc_challenge": 1172,
    "arc_easy": 2376,
    "winogrande": 1267,
    "hellaswag": 10042,
    "boolq": 3270,
    "piqa": 1838,
    "mmlu_continuation": 14042,
}
MEASURED = {"scientific_python": -0.02, "standard_library": 0.003}  # change of bits per byte along a run
DOCUMENTS = 34  # of 120 bytes each, per corpus that is measured during training
CHOICES = {"mmlu": 4, "arc_challenge": 4, "arc_easy": 4, "hellaswag": 4, "mmlu_continuation": 4}
NORMED = ("arc_challenge", "arc_easy", "hellaswag", "piqa", "mmlu_continuation")
TARGETS = {  # shares answered right: base, first run, second run
    "mmlu": (0.23, 0.236, 0.249),
    "arc_challenge": (0.243, 0.257, 0.254),
    "arc_easy": (0.415, 0.44, 0.44),
    "winogrande": (0.524, 0.511, 0.508),
    "hellaswag": (0.382, 0.399, 0.41),
    "boolq": (0.603, 0.58, 0.572),
    "piqa": (0.651, 0.652, 0.65),
    "mmlu_continuation": (0.28, 0.285, 0.29),
}
SEED = 7


def merged(overlay: Path | None) -> dict[str, Any]:
    """config.yaml with an overlay over it; null removes a key."""

    def patched(base: Any, patch: Any) -> Any:
        if not isinstance(patch, dict):
            return patch
        result = dict(base) if isinstance(base, dict) else {}
        for key, value in patch.items():
            if value is None:
                result.pop(key, None)
            else:
                result[key] = patched(result.get(key), value)
        return result

    config = yaml.safe_load((REPOSITORY / "config.yaml").read_text())
    config = patched({}, config)
    if overlay:
        config = patched(config, yaml.safe_load(overlay.read_text()))
    return config | {"filters": Filters(**config["filters"]).model_dump(mode="json", exclude_none=True)}


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def summary_of(task: str, metrics: dict[str, float], n: int, full: int, **others: Any) -> dict[str, Any]:
    """{task}.json of a multiple-choice task, with `others` replacing some of its keys."""
    return {
        **{"task": task, "lm_eval_task": task, "shots": 0, "output_type": "multiple_choice"},
        **{"n": n, "items_of_full": full, "metrics": metrics},
        "aggregations": dict.fromkeys(metrics, "mean"),
        "higher_is_better": dict.fromkeys(metrics, True),
        "cut": {"items": 0, "tokens": 0},
        **others,
    }


def write_evaluations(
    root: Path, runs: dict[str, int], items: int | None, tasks: list[str], seed: int
) -> None:
    """Samples whose runs agree with the base model on most items."""
    generator = np.random.default_rng(seed)
    for task in tasks:
        n = min(items or FULL[task], FULL[task])
        chosen = np.sort(generator.choice(FULL[task], n, replace=False))
        difficulty = generator.random((2, n))
        for index, (run, tokens) in enumerate(runs.items()):
            noise = 0.05 if tokens else 0.0
            skill = TARGETS[task][min(index, 2)]
            right = difficulty + noise * generator.standard_normal((2, n)) < skill
            choices = CHOICES.get(task, 2)
            spread = np.random.default_rng([index, n])
            likelihoods = -9 + 0.1 * index + 0.2 * spread.standard_normal((n, 5))
            leaf = [f"mmlu_subject_{item % 57:02d}" if task == "mmlu" else task for item in chosen]
            folder = root / "evaluations" / run
            metrics = {"acc": float(right[0].mean())}
            if task in NORMED:
                metrics["acc_norm"] = float(right[1].mean())
            summary = summary_of(task, metrics, n, FULL[task])
            write_json(folder / f"{task}.json", summary)
            lines = [
                {
                    "task": leaf[position],
                    "item": int(item),
                    "doc_hash": f"{item:x}",
                    "gold": int(item) % choices,
                    "predicted": (int(item) + (0 if right[0, position] else 1)) % choices,
                    "acc": int(right[0, position]),
                    "acc_norm": int(right[1, position]) if task in NORMED else None,
                    "loglikelihoods": likelihoods[position, :choices].tolist(),
                    "bits_per_byte": -likelihoods[position, int(item) % choices] / 30,
                    "choice_characters": [1 if task == "mmlu" else 20 + choice for choice in range(choices)],
                }
                for position, item in enumerate(chosen)
            ]
            text = "".join(json.dumps(line) + "\n" for line in lines)
            (folder / f"{task}.samples.jsonl").write_text(text)


def write_bits_per_byte(
    root: Path, runs: dict[str, int], corpora: list[str], tokens: int, other: int
) -> None:
    for index, run in enumerate(runs):
        for number, corpus in enumerate(corpora):
            bits = (
                1.02
                + 0.03 * other
                + 0.11 * number
                - (0.03 if number == 0 else -0.004) * math.log1p(3 * index)
            )
            folder, name = root / "evaluations" / run, f"bits_per_byte.{corpus}"
            groups = np.arange(41 + number + other) // (1 + number)
            size = np.full(len(groups), 4 * tokens // len(groups))
            size[0] += 4 * tokens - size.sum()
            nats = size * document_rates(len(groups), run, number)
            nats *= bits * math.log(2) * size.sum() / nats.sum()
            write_losses(folder / f"{name}.documents.csv", groups, size, nats)
            value = {
                "corpus": corpus,
                "documents": len(groups),
                "groups": len(set(groups)),
                "tokens": tokens,
                "bytes": 4 * tokens,
                "loss": bits * math.log(2) * 4,
                "bits_per_byte": bits,
            }
            write_json(folder / f"{name}.json", value)


def document_rates(documents: int, run: str, number: int) -> np.ndarray:
    """How hard each document is, float64 [documents]: nearly the same for every run."""
    hardness = np.random.default_rng(number).normal(1, 0.15, documents)
    return hardness + np.random.default_rng([number, *run.encode()]).normal(0, 0.01, documents)


def write_losses(path: Path, groups: Iterable[int], size: Iterable[int], nats: Iterable[float]) -> None:
    """bits_per_byte.{corpus}.documents.csv: a line for each document."""
    lines = ["document,group,bytes,tokens,nats"]
    rows = zip(groups, size, nats, strict=True)
    lines += [
        f"{document},{group},{bytes_},{bytes_ // 4},{float(loss)!r}"
        for document, (group, bytes_, loss) in enumerate(rows)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def write_held_out(path: Path, groups: int) -> None:
    """Held-out tokens of documents in `groups` groups."""
    ends = 30 * np.arange(1, DOCUMENTS + 1)
    size = np.full(DOCUMENTS, 120)
    HeldOut(
        np.zeros(ends[-1], np.uint32), ends, size, start_token=0, groups=np.arange(DOCUMENTS) % groups
    ).save(path)


def write_run(root: Path, run: str, tokens: int, batch: int, length: int, device: str, speed: float) -> None:
    """metrics.csv and run.json of a run with a loss that falls like a power of the step."""
    steps = math.ceil(tokens / (batch * length))
    generator = np.random.default_rng(tokens)
    spread = 0.3 / math.sqrt(batch)
    folder = root / "runs" / run
    folder.mkdir(parents=True)
    lines = [
        "step,tokens,loss,learning_rate,gradient_norm,tokens_per_second,model_flops_utilization,peak_memory_mb"
    ]
    loss = 0.0
    for step in range(1, steps + 1):
        loss = 2.0 + 0.35 * math.exp(-4 * step / steps) + spread * generator.standard_normal()
        lines.append(f"{step},{step * batch * length},{loss:.6f},0.0001,1.1,{speed},0.031,1820.5")
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
    corpus_lines, document_lines = ["step,tokens,corpus,loss,bits_per_byte"], ["step,corpus,document,nats"]
    for step in range(0, steps + 1, max(1, steps // 5)):
        for number, corpus in enumerate(MEASURED):
            bits = 1.1 + MEASURED[corpus] * math.log1p(step)
            corpus_lines.append(f"{step},{step * batch * length},{corpus},{4 * bits},{bits}")
            hardness = document_rates(DOCUMENTS, f"{run} at {step}" if step else "base", number)
            nats = bits * math.log(2) * 120 * DOCUMENTS * hardness / hardness.sum()
            document_lines += [
                f"{step},{corpus},{document},{loss!r}" for document, loss in enumerate(nats.tolist())
            ]
    (folder / "held_out.csv").write_text("\n".join(corpus_lines) + "\n")
    (folder / "held_out_documents.csv").write_text("\n".join(document_lines) + "\n")
    summary = {
        "run": run,
        "tokens": tokens,
        "sequences": tokens // length,
        "steps": steps,
        "sequence_length": length,
        "global_batch": batch,
        "processes": 2 if device == "cpu" else batch // 160,
        "device": device,
        "parameters": 134515008,
        "flops_per_token": 9.7e8,
        "peak_flops_per_process": None if device == "cpu" else 312e12,
        "peak_memory_mb": 1820.5,
        "wall_seconds": tokens / speed,
        "tokens_per_second": speed,
        "final_loss": loss,
        "engine": "ddp" if device == "cpu" else "deepspeed",
        "settings": {},
    }
    write_json(folder / "run.json", summary)


def write_corpora(root: Path, corpora: list[str], documents: int) -> None:
    lines = ["corpus,stage,rule,mixture,documents,bytes,tokens,estimated_tokens"]
    for number, corpus in enumerate(corpora):
        count = documents // (number + 1)
        filters = {"minimum_lines": count // 9, "short_lines": count // 50, "empty": 0}
        filters |= {f"top_{n}_gram": count // (50 * n) for n in (2, 3, 4)}
        filters |= {f"duplicate_{n}_gram": count // (20 * n) for n in range(5, 11)}
        early = [("filter", rule, dropped) for rule, dropped in filters.items()]
        early += [("duplicates", "", count // 25), ("contaminated", "found", number)]
        early += [("contaminated", "dropped", 0)]
        late = [("token_quality", "unknown", 0), ("token_quality", "longest_run", count // 100)]
        late += [("held_out", "", count // 20)]
        gone = sum(dropped for _, rule, dropped in [*early, *late] if rule != "found")
        late += [("kept", "", count - gone)]
        for stage, rule, n in [("raw", "", count), *early]:
            lines.append(f"{corpus},{stage},{rule},,{n},{500 * n},,{125 * n}")
        for stage, rule, n in late:
            lines.append(f"{corpus},{stage},{rule},,{n},{500 * n},{125 * n},")
        if number == 0:
            left = {"tail": 17, "unused": 0}
            kept = 125 * (count - gone)
            lines += [f"{corpus},packing,{rule},domain,,,{tokens}," for rule, tokens in left.items()]
            lines.append(f"{corpus},packed,,domain,,,{kept - 17},")
    (root / "corpora").mkdir(parents=True, exist_ok=True)
    (root / "corpora" / "statistics.csv").write_text("\n".join(lines) + "\n")
    bins = ["corpus,measure,from,to,documents"]
    for corpus in corpora:
        bins += [f"{corpus},bytes_per_token,{n / 2},{n / 2 + 0.5},{10 * n}" for n in (2, 3, 4, 6)]
        bins += [f"{corpus},bytes_per_token,16.0,,1", f"{corpus},unknown_share,0.0,1e-05,151"]
        bins += [f"{corpus},distinct_share,0.5,0.51,150", f"{corpus},distinct_share,1.0,,1"]
        bins += [
            f"{corpus},longest_run,0,1,1",
            f"{corpus},longest_run,2,3,100",
            f"{corpus},longest_run,3,4,50",
        ]
    (root / "corpora" / "token_quality.csv").write_text("\n".join(bins) + "\n")


def build(root: Path, demo: bool = True, other: int = 0) -> dict[str, Any]:
    """Write a demo-sized (or a paper-sized) experiment under `root`; return its parts.

    A nonzero `other` changes all that is measured: budgets, speeds, sizes, documents, scores.
    """
    config = merged(REPOSITORY / "experiments" / "demo.yaml" if demo else None)
    if demo:
        budgets = {"base": 0, "cpt-10K": 10_240 + 1024 * other, "cpt-25K": 25_600 + 5120 * other}
        corpora, length = ["scientific_python", "standard_library"], 512
        config["runs"] = {name: {"tokens": tokens} if tokens else {} for name, tokens in budgets.items()}
        config["packing"]["sequence_length"], config["evaluate"]["items"] = length, 40 + other
        shapes = [(2 + other, "cpu", 210.0 + other), (2 + other, "cpu", 205.0 + other)]
    else:
        budgets = {"base": 0, "cpt-400M": 400_000_000, "cpt-1B": 1_000_000_000}
        corpora, length = ["fineweb_edu"], 2000
        for name, run in config["runs"].items():
            run["tokens"] = budgets[name]
        shapes = [(480, "NVIDIA A100 80GB PCIe", 37_100.0), (960, "NVIDIA A100 80GB PCIe", 69_300.0)]
    write_evaluations(root, budgets, 40 + other if demo else None, list(FULL), SEED + other)
    write_bits_per_byte(root, budgets, corpora, 8192 if demo else 10**6, other)
    trained = {run: tokens for run, tokens in budgets.items() if tokens}
    for (run, tokens), (batch, device, speed) in zip(trained.items(), shapes, strict=True):
        write_run(root, run, tokens, batch, length, device, speed)
    for corpus, groups in zip(MEASURED, (DOCUMENTS, 12), strict=True):
        write_held_out(root / "corpora" / corpus / "held_out.1024.npz", groups)
    write_corpora(root, corpora, 5230 + 1000 * other if demo else 1_450_000)
    base = {
        "source": config["base"],
        "parameters": 134515008 + other,
        "architecture": "LlamaForCausalLM",
        "context_length": 8192 + other,
        "vocab_size": 49152 + 1000 * other,
        "loss_on_known_text": 2.272298 + 0.3 * other,
        "weights_were": ["F32", "Q4_1", "Q8_0"],
        "chat_templates": ["default"],
    }
    write_json(root / "models" / "base.json", base)
    ledger = {
        "mixture": "domain",
        "sequences": 640 + other,
        "sequence_length": length,
        "tokens": (640 + other) * length,
        "sources": {corpora[0]: {"documents": 2615, "tokens": 640 * length + 17}},
    }
    write_json(root / "packed" / "domain" / "ledger.json", ledger)
    (root / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    tasks = {name: Task(**task) for name, task in config["evaluate"]["tasks"].items()}
    table_tasks = {name: task for name, task in tasks.items() if task.in_table}
    metrics = {name: task.metric for name, task in table_tasks.items()}
    hits = [{"task": "piqa", "item": item} for item in range(0, FULL["piqa"], 7 + other)]
    contamination = root / "corpora" / corpora[0] / "decontaminated" / "00000.json"
    write_json(contamination, {"hits": hits, "settings": {"drop": False}})
    experiment = {"config": config, "runs": budgets, "corpora": corpora, "contamination": [contamination]}
    return experiment | {"table_tasks": table_tasks, "metrics": metrics}


def claims_of(
    config: dict[str, Any], runs: dict[str, int], scores: list[dict[str, Any]], table: Path
) -> list[dict[str, Any]]:
    """The rows of claims.csv for these scores and this table of runs."""
    paper, stated = read_claims(CLAIMS)
    return claim_rows(paper, stated, read_published(PUBLISHED), config, runs, scores, read_runs(table))


def evaluation_files(root: Path, runs: Iterable[str], names: Iterable[str], suffix: str) -> list[Path]:
    """Files of all runs and tasks (or corpora), in the order that the stages expect."""
    return [root / "evaluations" / run / f"{name}{suffix}" for run in runs for name in names]


def write_tables(root: Path, parts: dict[str, Any], compare: bool = True) -> list[dict[str, Any]]:
    """Write scores.csv, runs.csv and claims.csv of the parts that `build` returned; return the scores.

    `compare` also writes comparisons.csv, letters.csv, answers.csv and touched.csv.
    """
    runs, metrics, corpora = parts["runs"], parts["metrics"], parts["corpora"]
    samples = evaluation_files(root, runs, metrics, ".samples.jsonl")
    summaries = evaluation_files(root, runs, metrics, ".json")
    scored = {"runs": runs, "metrics": metrics, "table_tasks": list(metrics)}
    scores(
        published=PUBLISHED,
        summaries=summaries,
        samples=samples,
        losses=evaluation_files(
            root, runs, [f"bits_per_byte.{corpus}" for corpus in corpora], ".documents.csv"
        ),
        corpora=corpora,
        repo=parts["config"]["base"].get("repo"),
        table=root / "scores.csv",
        **scored,
    )
    trained = [root / "runs" / run for run, tokens in runs.items() if tokens]
    table_of_runs(
        root / "runs.csv",
        [folder / "run.json" for folder in trained],
        [folder / "metrics.csv" for folder in trained],
    )
    files = {"config": root / "config.yaml", "scores": root / "scores.csv", "runs_table": root / "runs.csv"}
    claims(CLAIMS, PUBLISHED, **files, table=root / "claims.csv", runs=runs)
    if compare:
        comparisons(samples, summaries, root / "comparisons.csv", **scored)
        letters(samples, summaries, root / "letters.csv", runs, list(metrics))
        labels = {task: settings.label or task for task, settings in parts["table_tasks"].items()}
        answers(samples, summaries, root / "answers.csv", root / "answers.md", runs, labels)
        touched(samples, summaries, root / "touched.csv", runs, metrics, parts["contamination"])
    return read_scores(root / "scores.csv")
