"""Private data: what is found, masked or dropped, counted by kind; all names and numbers are made up."""

import csv
import json
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from datatrove.pipeline.formatters.pii import PIIFormatter
from hypothesis import given, settings
from hypothesis import strategies as st

from cpt.config_sections import Filters, Private
from cpt.corpus.private import KINDS, MASKS, PrivateData
from filter_documents import filter_documents

FOUND = {
    "emails": [
        "jane.doe+list@mail.example.net",
        "bob_smith@uni-town.de",
        "o'neil@shop.co.uk",
        "x@y.zz",
        "root@[192.0.2.7]",
    ],
    "ips": ["8.8.8.8", "93.184.216.34", "2001:4860:4860::8888"],
    "phones": [
        "+49 30 1234567",
        "+1 (202) 555-0123",
        "+442079460123",
        "(415) 555-2671",
        "415-555-2671",
        "1-415-555-2671",
    ],
    "keys": [
        "AKIAIOSFODNN7EXAMPLE",
        "ghp_" + "aB3" * 12,
        "github_pat_" + "a1B2" * 8,
        "xoxb-123456789012-abcdefABCDEF",
        "AIza" + "Sy0" * 11 + "ab",
        "sk-proj-" + "Ab1" * 8,
        "hf_" + "AbCdEf" * 6,
        "sk_live_" + "4eC39H" * 4,
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmN",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIBOgIBAAJB\nabc\n-----END RSA PRIVATE KEY-----",
        "-----BEGIN PGP PRIVATE KEY BLOCK-----\nxx\n-----END PGP PRIVATE KEY BLOCK-----",
    ],
}
# These look private, but aren't.
LEFT = {
    "emails": ["@home", "a@b", "me@.com", "user@", "x = a @ b.T", "décor@"],
    "ips": [
        "10.0.0.1",
        "192.168.1.77",
        "127.0.0.1",
        "std::vector",
        "a::b",
        "12:30:45",
        "fe80::1",
        "300.1.1.900",
    ],
    "phones": [
        "978-3-16-148410-0",
        "2024-01-15",
        "512 256 1024",
        "3.14159265",
        "1,234,567",
        "+1",
        "x+12345678",
    ],
    "keys": [
        "password = input()",
        "token: the next word",
        "api_key = ''",
        "sk-learn",
        "AKIA",
        "hf_hub",
        "eyJ.eyJ.",
    ],
}


def private(how: str = "mask", *kinds: str) -> PrivateData:
    return PrivateData(dict.fromkeys(kinds or KINDS, how))


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_masked_and_the_rest_is_left(kind):
    for entry in FOUND[kind]:
        text = f"Before ({entry}), and after."
        masked, counts = private("mask", kind).mask(text)
        assert masked == f"Before ({MASKS[kind][0]}), and after."
        assert counts == {kind: (1, len(text) - len(masked))}
        assert private("drop", kind).reason(text) == (kind, 1)
    for entry in LEFT[kind]:
        assert private("mask", kind).mask(f"Before {entry} after") == (f"Before {entry} after", {})
        assert private("drop", kind).reason(entry) is None


def test_what_is_assigned_to_a_secret_name_is_masked():
    for text in (
        'api_key = "d8e8fca2dc0f"',
        "password: 'hunter2hunter2'",
        '{\\"client_secret\\": \\"d8e8fca2dc\\"}',
    ):
        masked, counts = private("mask", "keys").mask(text)
        assert "<KEY>" in masked and counts["keys"][0] == 1
        assert masked.count('"') == text.count('"') and masked.count("\\") == text.count("\\")


def test_replacements_take_turns_and_masking_twice_changes_nothing():
    text = "a@b.org c@d.org e@f.org; 8.8.8.8 9.9.9.9 1.1.1.1"
    once, counts = private("mask", "emails", "ips").mask(text)
    first, second = MASKS["emails"]
    assert once == f"{first} {second} {first}; {' '.join(MASKS['ips'][:3])}"
    assert {kind: count for kind, (count, _) in counts.items()} == {"emails": 3, "ips": 3}
    assert private("mask", "emails", "ips").mask(once) == (once, {})


SPEECH = "Write to {} or, if away, to <{}>; the server {} answers, {}:8080 too. Version 1.2.3, see 4.5.6.7."


@pytest.mark.parametrize("numbers", range(20))
def test_emails_and_ips_are_those_of_fineweb(numbers):
    names = ["ann", "b.c", "d-e_f", "g+h", "i'j", "k!", "x1.y2.z3"]
    domains = ["example.net", "mail.firm.co.uk", "a-b.org", "x.yz"]
    text = SPEECH.format(
        f"{names[numbers % 7]}@{domains[numbers % 4]}",
        f"{names[(numbers + 3) % 7]}@{domains[(numbers + 1) % 4]}",
        f"{numbers + 20}.{numbers}.{255 - numbers}.{numbers * 7 % 256}",
        f"{numbers + 190}.168.{numbers}.1",
    )
    assert private("mask", "emails", "ips").mask(text)[0] == PIIFormatter().format(text)


@settings(max_examples=200, deadline=None)
@given(st.text("ab1.@-_ +[]:é\n", max_size=40))
def test_on_any_text_emails_are_those_of_fineweb(text):
    theirs = PIIFormatter(remove_ips=False).format(text)
    assert private("mask", "emails").mask(text)[0] == theirs


@settings(max_examples=200, deadline=None)
@given(st.text("0123456789.ab \n", max_size=40))
def test_on_any_text_ips_of_version_4_are_those_of_fineweb(text):
    ours = private("mask", "ips")
    # We keep existing replacements, which datatrove replaces; only we mask version 6.
    if not any(mask in text for mask in MASKS["ips"]):
        assert ours.mask(text)[0] == PIIFormatter(remove_emails=False).format(text)


HOSTILE = [
    "a" * 200 + "@",
    "a.",
    "!a..",
    "!a..!a..@",
    "@",
    "a@a.",
    "eyJ-",
    "eyJaaaaaaaa.",
    "1.",
    "+1 ",
    "2001:",
    "Tel: 1 ",
    'password="aaaaaaa',
    "-----BEGIN PRIVATE KEY-----",
    "sk-",
    "xoxb-",
    "(",
    "\\",
    "api_key=",
    "1",
    "a-",
]


@pytest.mark.parametrize("piece", HOSTILE)
def test_time_is_linear_in_hostile_text(piece):
    seconds = []
    for size in (50_000, 400_000):
        text = piece * (size // len(piece))
        start = time.process_time()
        private().mask(text)
        seconds.append(time.process_time() - start)
    # The text is eight times as long; quadratic time would be 64 times as long.
    assert seconds[1] < 24 * max(seconds[0], 0.01)


PROSE = (
    "A sentence that is long enough to count as a line of its own, by {0}.\n"
    "Another one, which says something else about quite other things.\n"
    "The third of them ends the document {1} without repeating anything."
)


def run(save_table, folder: Path, filters: dict, texts: list[str], **how) -> dict[str, Path]:
    raw = save_table(folder / "raw.parquet", {"text": texts, "id": [f"n{i}" for i in range(len(texts))]})
    chosen = Filters.model_validate({**filters, "private": Private(**how) if how else None})
    paths = {name: folder / name for name in ("documents", "drops", "examples")}
    filter_documents(raw, "text", {}, chosen.document_filters, "none", **paths)
    return paths


def counts_of(paths: dict[str, Path]) -> dict[str, tuple[int, int]]:
    with open(paths["drops"]) as file:
        return {row["rule"]: (int(row["documents"]), int(row["bytes"])) for row in csv.DictReader(file)}


def test_the_stage_masks_drops_and_counts_by_kind(save_table, tmp_path, filters):
    texts = [
        PROSE.format("ann@firm.net", "(see bob@firm.net)"),
        PROSE.format("Ann", "today"),
        PROSE.format("hf_" + "AbCdEf" * 6, "8.8.8.8"),
        PROSE.format("Ann", "from 8.8.8.8"),
        "short\nbob@firm.net\nlines",
    ]
    paths = run(save_table, tmp_path, filters, texts, emails="mask", ips="mask", keys="drop")
    kept = pq.read_table(paths["documents"]).to_pylist()
    assert [row["id"] for row in kept] == ["n0", "n1", "n3"]
    assert kept[0]["text"] == PROSE.format(MASKS["emails"][0], f"(see {MASKS['emails'][1]})")
    assert kept[1]["text"] == texts[1] and kept[2]["text"] == texts[3].replace("8.8.8.8", MASKS["ips"][0])
    assert all(row["bytes"] == len(row["text"].encode()) for row in kept)
    table = counts_of(paths)
    assert table["private_keys"][0] == 1 and table["short_lines"][0] == 1
    assert table["masked_emails"] == (1, len(texts[0]) - len(kept[0]["text"]))
    assert table["masked_ips"] == (1, len(texts[3]) - len(kept[2]["text"]))
    assert table["read"][0] == 5
    rules = [rule for rule in table if rule != "read" and not rule.startswith("masked_")]
    assert [sum(table[rule][column] for rule in rules) for column in (0, 1)] == list(table["read"])
    (first, *_) = [json.loads(line) for line in paths["examples"].read_text().splitlines()]
    assert (first["rule"], first["value"], first["threshold"], first["id"]) == ("private_keys", 1, 0, "n2")


def test_off_is_as_if_there_were_no_such_key(save_table, tmp_path, filters):
    texts = [PROSE.format("ann@firm.net", f"number {number}") for number in range(5)]
    off = run(save_table, tmp_path / "off", filters, texts)
    nothing = run(save_table, tmp_path / "nothing", filters, texts, emails=None)
    for name, path in off.items():
        assert path.read_bytes() == nothing[name].read_bytes()
    assert pq.read_table(off["documents"])["text"].to_pylist() == texts
    assert not any(rule.startswith(("private_", "masked_")) for rule in counts_of(off))
