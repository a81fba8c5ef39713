"""Chat: the stage reads prompts, renders them with the model's template, checks instructions, answers."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from chat_answers import chat_answers
from cpt.config_chat import Chat, check_chat
from cpt.errors import UserError
from cpt.evaluate.instructions import KINDS, PROMPTS, follows
from cpt.model_folders import copy_companions
from cpt.prompts import encode_prompts, read_prompts

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = (
    "{% for turn in messages %}{% if turn.role == 'system' %}{{ raise_exception('no system turns here') }}"
    "{% endif %}[{{ turn.role }}] {{ turn.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)


def write(folder, name, content):
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder / name


def copy_with(model_folder, folder, template):
    """The tiny model with this chat template, or with none."""
    for name in ("config.json", "model.safetensors"):
        (folder / name).symlink_to(model_folder / name)
    copy_companions(model_folder, folder)
    if template:
        (folder / "chat_template.jinja").write_text(template)
    else:
        (folder / "chat_template.jinja").unlink(missing_ok=True)
    return folder


@pytest.fixture(scope="module")
def templated(model_folder, tmp_path_factory):
    return copy_with(model_folder, tmp_path_factory.mktemp("templated"), TEMPLATE)


@pytest.fixture(scope="module")
def plain(model_folder, tmp_path_factory):
    return copy_with(model_folder, tmp_path_factory.mktemp("plain"), "")


def test_prompts_of_a_text_file_are_its_lines(tmp_path):
    file = write(tmp_path, "p.txt", "\ufeff# a comment\n\nWhat is it?\r\n  And why?  \n")
    assert [(prompt.text, prompt.place) for prompt in read_prompts(file)] == [
        ("What is it?", f"{file}, line 3"),
        ("And why?", f"{file}, line 4"),
    ]


def test_prompts_of_a_json_lines_file_are_conversations(tmp_path):
    turns = [("user", "One?"), ("assistant", "One."), ("user", "# Two?\nMore")]
    messages = [{"role": role, "content": content} for role, content in turns]
    file = write(tmp_path, "p.jsonl", json.dumps({"messages": messages}) + "\n\n")
    (prompt,) = read_prompts(file)
    assert prompt.messages == messages and prompt.text.startswith("user: One?\nassistant: One.\nuser: # Two?")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.csv", "a", "p.csv: expected a file that ends in .txt or .jsonl; rename it"),
        ("p.txt", "# only this\n\n", "p.txt has no prompt; write at least one line into it"),
        ("p.txt", b"fine\ncaf\xe9\n", "p.txt, line 2: not UTF-8 (unexpected end of data); save the file as"),
        (
            "p.jsonl",
            "{}",
            'p.jsonl, line 1: expected {"messages": [{"role": "user", "content": "..."}]}, but',
        ),
        ("p.jsonl", "no json", "p.jsonl, line 1: expected {"),
        ("p.jsonl", '{"messages": [["user"]]}', "(TypeError: "),
        (
            "p.jsonl",
            '{"messages": [{"role": "robot", "content": "x"}]}',
            "p.jsonl, line 1: message 1 needs a role among system, user, assistant and text as content",
        ),
        (
            "p.jsonl",
            '{"messages": [{"role": "user", "content": 5}]}',
            "p.jsonl, line 1: message 1 needs a role",
        ),
        (
            "p.jsonl",
            '\n{"messages": [{"role": "assistant", "content": "x"}]}',
            "p.jsonl, line 2: the last message isn't the user's, so there is nothing to answer; add one",
        ),
        ("p.jsonl", '{"messages": []}', "p.jsonl, line 1: the last message isn't the user's"),
    ],
)
def test_files_that_hold_no_prompts(tmp_path, name, content, message):
    with pytest.raises(UserError) as raised:
        read_prompts(write(tmp_path, name, content))
    assert message in str(raised.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match=r"p\.txt: there is no such file \(relative to"):
        read_prompts(tmp_path / "p.txt")


def test_a_model_with_a_template_reads_what_it_renders(templated, loaded, tmp_path):
    _, tokenizer = loaded
    prompts = read_prompts(write(tmp_path, "p.txt", "Why?\n"))
    encoded, is_templated = encode_prompts(prompts, templated, tokenizer, 100)
    assert is_templated and tokenizer.decode(encoded[0]) == "[user] Why?\n[assistant] "


def test_a_model_without_a_template_reads_the_plain_text(plain, loaded, tmp_path):
    _, tokenizer = loaded
    prompts = read_prompts(write(tmp_path, "p.txt", "Say <|endoftext|>\n"))
    encoded, is_templated = encode_prompts(prompts, plain, tokenizer, 100)
    assert not is_templated and encoded == [tuple(b"Say <|endoftext|>")]  # special strings stay text


def test_prompts_that_a_model_cannot_read(templated, loaded, tmp_path):
    _, tokenizer = loaded
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]
    file = write(tmp_path, "p.jsonl", "\n" + json.dumps({"messages": messages}))
    with pytest.raises(UserError) as raised:
        encode_prompts(read_prompts(file), templated, tokenizer, 100)
    assert str(raised.value).startswith(f"{file}, line 2: ") and "no system turns here" in str(raised.value)
    long = read_prompts(write(tmp_path, "p.txt", "short\n" + "long " * 30))
    with pytest.raises(UserError, match=r"line 2: the prompt has \d+ tokens, and beside chat.max_new_tokens"):
        encode_prompts(long, templated, tokenizer, 100)


# For each kind, an answer that follows it and one that doesn't.
ANSWERS = {
    "change_case:english_lowercase": ("all of it is small.", "Not all."),
    "change_case:english_capital": ("ALL OF IT.", "Not ALL."),
    "punctuation:no_comma": ("One and two.", "One, two."),
    "startend:quotation": ('"Like\nthis."', '"Like this.'),
    "startend:end_checker": ("Yes. Is there anything else I can help with?", "Is there anything else? No."),
    "detectable_format:number_bullet_lists": ("* a\n* b\n- c", "* a\n* b"),
    "detectable_format:json_format": ('```json\n{"a": 1}\n```', "{'a': 1}"),
    "detectable_format:title": ("<<A title>>\nText.", "<A title>"),
    "detectable_format:number_highlighted_sections": ("*one* and **two**", "*one*"),
    "detectable_content:postscript": ("Text.\nP.S. More.", "Text. PS"),
    "keywords:forbidden_words": ("Sand is there.", "The sand."),
    "length_constraints:number_words": ("word " * 29, "word " * 30),
    "length_constraints:number_paragraphs": ("One.\n***\nTwo.", "One.\n\nTwo."),
    "combination:two_responses": ("One. ****** Two.", "One. ****** One."),
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_instruction_is_checked_as_ifeval_does(kind):
    right, wrong = ANSWERS[kind]
    assert follows(kind, right) and not follows(kind, wrong) and not follows(kind, "  ")


def test_each_kind_is_asked_about_each_subject_once():
    assert len({instruction.prompt for instruction in PROMPTS}) == len(PROMPTS) == 98
    assert {instruction.kind for instruction in PROMPTS} == set(KINDS)


def test_answers_are_written_with_their_length_and_ending(templated, device, tmp_path):
    prompts = write(tmp_path, "p.txt", "Why?\nHow?\nWhy?\n")
    settings = {"precision": "float32", "device": device, "kept": tmp_path / "kept", "prompts": prompts}
    chat_answers(templated, tmp_path / "a" / "run.jsonl", max_new_tokens=12, batch_size=4, **settings)
    rows = [json.loads(line) for line in (tmp_path / "a" / "run.jsonl").read_text().splitlines()]
    assert [row["prompt"] for row in rows] == ["Why?", "How?", "Why?"] and rows[0]["answer"] == rows[2][
        "answer"
    ]
    assert all(row["template"] and row["tokens"] == 12 and not row["stopped"] for row in rows)
    (file,) = (tmp_path / "kept").iterdir()
    content = file.read_text()
    chat_answers(templated, tmp_path / "b" / "run.jsonl", max_new_tokens=12, batch_size=1, **settings)
    assert (tmp_path / "a" / "run.jsonl").read_bytes() == (tmp_path / "b" / "run.jsonl").read_bytes()
    assert file.read_text() == content  # nothing was generated again


def test_instructions_are_asked_without_a_file(plain, device, tmp_path):
    chat_answers(plain, tmp_path / "run.jsonl", tmp_path / "kept", 2, 49, "float32", device=device)
    rows = [json.loads(line) for line in (tmp_path / "run.jsonl").read_text().splitlines()]
    assert [row["prompt"] for row in rows] == [instruction.prompt for instruction in PROMPTS]
    assert all(row["followed"] == follows(row["kind"], row["answer"]) for row in rows)
    assert not rows[0]["template"]


def test_runs_that_cannot_answer():
    with pytest.raises(ValueError, match=r"chat\.runs: there is no 'bas' in runs; did you mean 'base'"):
        check_chat(Chat(runs=["bas"]), {"base": None})
    with pytest.raises(ValueError, match=r"chat\.runs: empty; name a run, or set it to null for all"):
        check_chat(Chat(runs=[]), {"base": None})


@pytest.fixture(scope="module")
def snakemake(tmp_path_factory):
    """Run Snakemake on the smoke experiment in a folder of the project's files; returns what it printed."""
    folder = tmp_path_factory.mktemp("project")
    for path in ROOT.glob("[!.]*"):
        if path.name not in ("results", "tests"):
            (folder / path.name).symlink_to(path)
    (folder / "mine.txt").write_text("What is it?\nWhy [bold]so[/bold]?\n")

    def run(*arguments, fails=False):
        command = [sys.executable, "-m", "snakemake", *arguments[:1], "--cores", "2", "--quiet", "rules"]
        command += ["--configfile", "experiments/smoke.yaml", *arguments[1:]]
        done = subprocess.run(
            command,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            env=os.environ | {"COLUMNS": "200"},
        )
        assert (done.returncode != 0) == fails, done.stdout
        return done.stdout

    return run, folder


def test_chat_makes_a_page_and_prints_the_answers(snakemake):
    run, folder = snakemake
    config = ("--config", "chat={prompts: mine.txt, runs: [base], max_new_tokens: 5}")
    printed = run("chat", *config)
    assert "2. Why [bold]so[/bold]?" in printed and "cut at 5 tokens" in printed
    assert "0 of 2 stopped (0 to 66 %)" in printed
    page = (folder / "results/smoke/chat.html").read_text()
    assert "What is it?" in page and (folder / "results/smoke/chat.md").exists()
    assert "Nothing to be done" in run("chat", *config, "--dry-run")


def test_chat_without_prompts_stops_before_any_job(snakemake):
    run, folder = snakemake
    assert "chat.prompts: not set; name a file with one question a line" in run("chat", "-n", fails=True)
    printed = run("chat", "-n", "--config", "chat={prompts: nowhere.txt}", fails=True)
    assert f"chat.prompts: nowhere.txt: there is no such file (relative to {folder})" in printed


def test_the_code_on_the_page_runs(templated, capsys):
    """The blocks of Python in docs/using.md, on the tiny model."""
    page = (ROOT / "docs" / "using.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert any("apply_chat_template" in block for block in blocks)
    for block in blocks:
        assert "results/demo/released/cpt-41K" in block
        exec(block.replace("results/demo/released/cpt-41K", str(templated)), {})
        assert capsys.readouterr().out  # the answer of a random model


def test_conversations_on_the_page_can_be_read(tmp_path):
    page = (ROOT / "docs" / "using.md").read_text()
    blocks = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    assert len(read_prompts(write(tmp_path, "p.jsonl", "".join(blocks)))) == len(blocks) > 0


def test_rules_import_nothing_of_this_wing():
    """The wing turns the hub's client off, and jobs that download would inherit that from Snakemake."""
    files = [ROOT / "Snakefile", *(ROOT / "rules").glob("*.smk")]
    assert [file.name for file in files if "cpt.evaluate" in file.read_text()] == []
