"""Made-up rows of the data sets whose tasks compare given answers, each in its data set's own schema."""

from task_facts import (
    ALL,
    CHINESE,
    ENGLISH,
    FRENCH,
    GERMAN,
    ITALIAN,
    MMLU,
    NAMES,
    SUMS,
    USUAL,
    Fact,
    Row,
    Sources,
    Sum,
    abcd,
    letter,
    pair,
)


def _race(f: Fact, n: int) -> Row:
    first = {
        "question": "The text is about  _  .",
        "answer": "B",
        "options": ["nothing", "a farm", "war", "law"],
    }
    last = {"question": f.question, "answer": letter(n), "options": f.options(n)}
    return {"article": f"{f.sentence} So it was.", "problems": repr([first, last])}


def _wsc(f: Fact, n: int) -> Row:
    text = f"The bag has no room for the book because it is {'small' if n % 2 else 'large'}, says {NAMES[n]}."
    return {
        "text": text,
        "pronoun": "it",
        "pronoun_loc": text.index(" it ") + 1,
        "quote": "",
        "quote_loc": 0,
    } | ({"options": ["The book", "The bag"], "label": n % 2, "source": ""})


def _wic(f: Fact, n: int) -> Row:
    one, two = (
        f"The bank of the river, says {NAMES[n]}.",
        ("A bank lends money.", "We sat on the bank.")[n % 2],
    )
    return {"word": "bank", "sentence1": one, "sentence2": two, "label": n % 2} | (
        {"start1": 4, "end1": 8, "start2": two.index("bank"), "end2": two.index("bank") + 4}
    )


def _mathqa(s: Sum, n: int) -> Row:
    options = [str(s.a + s.b + k - n % 5) for k in range(5)]
    listed = " , ".join(f"{letter} ) {value}" for letter, value in zip("abcde", options, strict=True))
    return {
        "Problem": f"{s.text} How many?",
        "Rationale": "add",
        "options": listed,
        "correct": "abcde"[n % 5],
    }


def _truthful(f: Fact, n: int) -> Row:
    one = {"choices": [f.right, *f.wrong], "labels": [1, 0, 0, 0]}
    two = {"choices": [f.right, f"It is {f.right}", *f.wrong], "labels": [1, 1, 0, 0, 0]}
    return {"question": f.question, "mc1_targets": one, "mc2_targets": two}


def _hellaswag(f: Fact, n: int) -> Row:
    return {
        "ind": n,
        "activity_label": "Farming",
        "source_id": "",
        "split": "x",
        "split_type": "y",
        "ctx_a": f.sentence,
        "ctx_b": "then they" if n % 2 else "",
    } | (
        {"ctx": f.sentence, "label": str(n % 4), "endings": [f"see {o} [title] again." for o in f.options(n)]}
    )


def _qasper(f: Fact, n: int) -> Row:
    def blob(**row: object) -> Row:
        return {"unanswerable": False, "extractive_spans": [], "yes_no": None, "free_form_answer": ""} | row

    free, yes = blob(free_form_answer=f.right), blob(yes_no=n % 2 == 0)
    qas = {
        "question": [f.question, f"Is it {f.options(n)[0]}?"],
        "answers": [{"answer": [free]}, {"answer": [yes]}],
    }
    return {"id": str(n), "title": f"A note on {f.right}", "abstract": f.sentence, "qas": qas}


# By repository and configuration: the function that makes a row, its facts, and the splits.
CHOICES: Sources = {
    ("allenai/sciq", "default"): (
        lambda f, n: (
            {"question": f.question, "correct_answer": f.right, "support": f.sentence}
            | {f"distractor{k}": wrong for k, wrong in enumerate(f.wrong, 1)}
        ),
        ENGLISH,
        ALL,
    ),
    ("allenai/openbookqa", "main"): (
        lambda f, n: (
            {"id": str(n), "question_stem": f.question, "answerKey": letter(n)}
            | {"choices": {"text": f.options(n), "label": list("ABCD")}}
        ),
        ENGLISH,
        ALL,
    ),
    **{
        ("allenai/ai2_arc", name): (
            lambda f, n: (
                {"id": str(n), "question": f.question, "answerKey": "1234ABCD"[n % 8]}
                | {"choices": {"text": f.options(n), "label": list("1234" if n % 8 < 4 else "ABCD")}}
            ),
            ENGLISH,
            ALL,
        )
        for name in ("ARC-Easy", "ARC-Challenge")
    },
    ("allenai/winogrande", "winogrande_xl"): (
        lambda f, n: (
            {"option1": f.right, "option2": f.wrong[0], "answer": "12"[n % 2]}
            | {"sentence": f"Between {f.right} and {f.wrong[0]}, {NAMES[n]} chose the _ because it was near."}
        ),
        ENGLISH,
        USUAL,
    ),
    ("Rowan/hellaswag", "default"): (_hellaswag, ENGLISH, USUAL),
    ("baber/piqa", "default"): (
        lambda f, n: {
            "goal": f.question,
            "sol1": f.options(n % 2)[0],
            "sol2": f.options(n % 2)[1],
            "label": n % 2,
        },
        ENGLISH,
        USUAL,
    ),
    **{
        ("cais/mmlu", subject): (
            lambda f, n, s=subject: (
                {"question": f"({s}) {f.question}", "subject": s}
                | {"choices": f.options(n + len(s)), "answer": (n + len(s)) % 4}
            ),
            ENGLISH[:5] + ENGLISH[5 + len(subject) % 14 :][:2],
            ("dev", "validation", "test"),
        )
        for subject in MMLU
    },
    ("aps/super_glue", "boolq"): (
        lambda f, n: {
            "question": f.question.lower().rstrip("?"),
            "passage": f.sentence,
            "idx": n,
            "label": n % 2,
        },
        ENGLISH,
        USUAL,
    ),
    ("aps/super_glue", "cb"): (
        lambda f, n: pair(f, n, "premise", "hypothesis") | {"label": n % 3},
        ENGLISH,
        USUAL,
    ),
    ("aps/super_glue", "copa"): (
        lambda f, n: (
            {"premise": f.sentence, "question": ("cause", "effect")[n % 2], "label": n % 2, "idx": n}
            | {"choice1": f"It was {f.options(n % 2)[0]}.", "choice2": f"It was {f.options(n % 2)[1]}."}
        ),
        ENGLISH,
        USUAL,
    ),
    ("aps/super_glue", "wic"): (_wic, ENGLISH, USUAL),
    ("aps/super_glue", "multirc"): (
        lambda f, n: (
            {"paragraph": f.sentence, "question": f.question, "answer": f.options(n)[0]}
            | {"idx": {"paragraph": n, "question": n, "answer": 0}, "label": int(n % 4 == 0)}
        ),
        ENGLISH,
        USUAL,
    ),
    ("nyu-mll/glue", "rte"): (lambda f, n: pair(f, n, "sentence1", "sentence2"), ENGLISH, USUAL),
    ("nyu-mll/glue", "wnli"): (lambda f, n: pair(f, n, "sentence1", "sentence2", (1, 0)), ENGLISH, USUAL),
    ("nyu-mll/glue", "mrpc"): (lambda f, n: pair(f, n, "sentence1", "sentence2", (1, 0)), ENGLISH, USUAL),
    ("nyu-mll/glue", "cola"): (
        lambda f, n: {"sentence": f.sentence if n % 2 else f.sentence[::-1], "label": n % 2, "idx": n},
        ENGLISH,
        USUAL,
    ),
    ("facebook/anli", "default"): (
        lambda f, n: pair(f, n, "premise", "hypothesis", (0, 2)) | {"uid": str(n), "reason": ""},
        ENGLISH,
        ("train_r1", "dev_r1", "test_r1"),
    ),
    ("CogComp/mc_taco", "default"): (
        lambda f, n: (
            {"sentence": f.sentence, "question": f.question, "answer": f.options(n)[0]}
            | {"label": int(n % 4 == 0), "category": "Event Ordering"}
        ),
        ENGLISH,
        ("validation", "test"),
    ),
    ("truthfulqa/truthful_qa", "multiple_choice"): (_truthful, ENGLISH, ("validation",)),
    ("truthfulqa/truthful_qa", "generation"): (
        lambda f, n: (
            {"type": "x", "category": "y", "question": f.question, "best_answer": f.right, "source": ""}
            | {"correct_answers": [f.right, f"It is {f.right}"], "incorrect_answers": list(f.wrong)}
        ),
        ENGLISH,
        ("validation",),
    ),
    ("regisss/math_qa", "default"): (_mathqa, SUMS, ALL),
    ("openlifescienceai/medmcqa", "default"): (
        lambda f, n: (
            {"id": str(n), "question": f.question, "cop": n % 4, "exp": f.sentence, "topic_name": None}
            | dict(zip(("opa", "opb", "opc", "opd"), f.options(n), strict=True))
        ),
        ENGLISH,
        USUAL,
    ),
    ("GBaker/MedQA-USMLE-4-options-hf", "default"): (
        lambda f, n: (
            {"id": str(n), "sent1": f.question, "sent2": "", "label": n % 4}
            | {f"ending{k}": option for k, option in enumerate(f.options(n))}
        ),
        ENGLISH,
        ALL,
    ),
    ("bigbio/pubmed_qa", "pubmed_qa_labeled_fold0_source"): (
        lambda f, n: (
            {"QUESTION": f"Is it {f.options(n)[0]}?", "CONTEXTS": [f.sentence, "We looked at 12 farms."]}
            | {
                "LABELS": ["RESULTS"],
                "MESHES": [],
                "YEAR": "2001",
                "LONG_ANSWER": "",
                "reasoning_required_pred": "",
            }
            | {"reasoning_free_pred": "", "final_decision": ("yes", "no", "maybe")[n % 3]}
        ),
        ENGLISH,
        ALL,
    ),
    ("EleutherAI/logiqa", "logiqa"): (
        lambda f, n: {
            "label": "abcd"[n % 4],
            "context": f.sentence,
            "question": f.question,
            "options": f.options(n),
        },
        ENGLISH,
        ALL,
    ),
    ("EleutherAI/race", "high"): (_race, ENGLISH, ("test",)),
    ("allenai/swag", "regular"): (
        lambda f, n: (
            {"startphrase": f"{f.question} It is", "label": n % 4}
            | {f"ending{k}": option for k, option in enumerate(f.options(n))}
        ),
        ENGLISH,
        USUAL,
    ),
    ("lighteval/siqa", "default"): (
        lambda f, n: (
            {"context": f.sentence, "question": f.question, "label": "123"[n % 3]}
            | dict(zip(("answerA", "answerB", "answerC"), f.options(n % 3), strict=False))
        ),
        ENGLISH,
        USUAL,
    ),
    ("tau/commonsense_qa", "default"): (
        lambda f, n: (
            {"id": str(n), "question": f.question, "question_concept": f.right, "answerKey": letter(n)}
            | {"choices": {"label": list("ABCDE"), "text": [*f.options(n), "nothing"]}}
        ),
        ENGLISH,
        USUAL,
    ),
    ("EleutherAI/headqa", "en"): (
        lambda f, n: (
            {"name": "exam", "category": "farming", "qid": n, "qtext": f.question, "ra": n % 4 + 1}
            | {"answers": [{"aid": k, "atext": option} for k, option in enumerate(f.options(n), 1)]}
        ),
        ENGLISH,
        ALL,
    ),
    **{
        ("nyu-mll/blimp", name): (
            lambda f, n: dict(
                zip(
                    ("sentence_bad", "sentence_good") if n % 3 == 2 else ("sentence_good", "sentence_bad"),
                    (f.sentence, " ".join(f.sentence.split()[::-1])),
                    strict=True,
                )
            ),
            pool,
            ("train",),
        )
        for name, pool in (
            ("adjunct_island", ENGLISH),
            ("wh_island", ENGLISH[::-1]),  # equally many items
            ("passive_1", ENGLISH[:5]),
            ("passive_2", ENGLISH[3:6]),
            ("causative", ENGLISH[7:9]),
        )
    },
    ("hails/agieval-lsat-ar", "default"): (
        lambda f, n: {"query": f"{f.sentence} Q: {f.question} A:", "choices": f.options(n), "gold": [n % 4]},
        ENGLISH,
        ("test",),
    ),
    ("skg/toxigen-data", "annotated"): (
        lambda f, n: {"text": f.sentence, "toxicity_ai": float(n % 6), "toxicity_human": 2.5 * (n % 2)},
        ENGLISH,
        ("train", "test"),
    ),
    ("jannalu/crows_pairs_multilingual", "english"): (
        lambda f, n: (
            {"id": n, "sent_more": f.sentence, "sent_less": f.false, "stereo_antistereo": "stereo"}
            | {"bias_type": "age"}
        ),
        ENGLISH,
        ("test",),
    ),
    ("EleutherAI/mutual", "mutual"): (
        lambda f, n: (
            {"answers": letter(n), "options": [f"m : {o} ." for o in f.options(n)]}
            | {"article": f"f : {f.question} m : what ? f : {f.question}", "id": str(n)}
        ),
        ENGLISH,
        USUAL,
    ),
    ("lighteval/winograd_wsc", "wsc273"): (_wsc, ENGLISH, ("test",)),
    ("EleutherAI/hendrycks_ethics", "commonsense"): (
        lambda f, n: {"label": n % 2, "input": f"I gave them {f.options(n % 2)[0]}. {f.sentence}"},
        ENGLISH,
        ("train", "test"),
    ),
    ("Idavidrein/gpqa", "gpqa_main"): (
        lambda f, n: (
            {"Question": f" {f.question}", "Correct Answer": f.right}
            | {f"Incorrect Answer {k}": wrong for k, wrong in enumerate(f.wrong, 1)}
        ),
        ENGLISH,
        ("train",),
    ),
    ("facebook/xnli", "fr"): (lambda f, n: pair(f, n, "premise", "hypothesis", (0, 2)), FRENCH, USUAL),
    ("cambridgeltl/xcopa", "it"): (
        lambda f, n: (
            {"premise": f.sentence, "question": ("cause", "effect")[n % 2], "label": n % 2, "idx": n}
            | {
                "choice1": f"Era {f.options(n % 2)[0]}.",
                "choice2": f"Era {f.options(n % 2)[1]}.",
                "changed": False,
            }
        ),
        ITALIAN,
        ("validation", "test"),
    ),
    ("facebook/belebele", "deu_Latn"): (
        lambda f, n: (
            {"flores_passage": f.sentence, "question": f.question, "correct_answer_num": "1234"[n % 4]}
            | {f"mc_answer{k}": option for k, option in enumerate(f.options(n), 1)}
        ),
        GERMAN,
        ("test",),
    ),
    ("CohereLabs/Global-MMLU-Lite", "de"): (
        lambda f, n: (
            {"question": f.question, "answer": letter(n), "subject": "x"}
            | {"subject_category": ("Business", "Medical")[n // 2 % 2]}
            | dict(zip((f"option_{x}" for x in "abcd"), f.options(n), strict=True))
        ),
        GERMAN,
        ("dev", "test"),
    ),
    ("haonan-li/cmmlu", "anatomy"): (
        lambda f, n: {"Question": f.question, "Answer": letter(n), **abcd(f, n)},
        CHINESE,
        ("dev", "test"),
    ),
    ("ceval/ceval-exam", "law"): (
        lambda f, n: {
            "id": n,
            "question": f.question,
            "answer": letter(n),
            "explanation": "",
            **abcd(f, n),
        },
        CHINESE,
        ("dev", "val", "test"),
    ),
    ("google-research-datasets/paws-x", "de"): (
        lambda f, n: pair(f, n, "sentence1", "sentence2", (1, 0)) | {"id": n},
        GERMAN,
        ALL,
    ),
    ("allenai/qasper", "default"): (_qasper, ENGLISH, USUAL),
    ("stanfordnlp/web_questions", "default"): (
        lambda f, n: {
            "url": "",
            "question": f.question,
            "answers": [f.right, f"the {f.right}", f.wrong[0]][: 1 + n % 3],
        },
        ENGLISH,
        ("train", "test"),
    ),
}
