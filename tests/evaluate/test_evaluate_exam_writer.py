"""Questions written by a language model: a stand-in endpoint that fails, refuses and answers nonsense."""

import json
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, HTTPServer

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from cpt.config_exam import Exam, Writer
from cpt.errors import UserError
from cpt.evaluate.exam_writer import KEY, PASSAGE, PROMPT, Client, passages_of, write_candidates
from exam_candidates import exam_candidates

SECRET = "sk-secret-1234"
DOCUMENTS = [
    {"id": f"d{number}", "url": f"u{number}", "text": f"Volume {number}\nThe lake lies near Bergen{number}."}
    for number in range(4)
]


class Endpoint(HTTPServer):
    """Answers with what `replies` holds, one after the other: (status, headers, body); the last one again."""

    def __init__(self, replies):
        self.replies, self.seen = replies, []
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def settings(self):
        address = f"http://127.0.0.1:{self.server_port}/v1/"
        return Writer(endpoint=address, model="stand-in", attempts=3, timeout=1)


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append((self.path, self.headers.get("Authorization"), json.loads(body)))
        replies = self.server.replies
        status, headers, reply = replies.pop(0) if len(replies) > 1 else replies[0]
        if status is None:  # no answer within the time
            self.close_connection = True
            return
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(reply.encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def endpoint(monkeypatch):
    """endpoint(*replies): a server that the fixture closes; the key is in the environment."""
    monkeypatch.setenv(KEY, SECRET)
    servers = []

    def start(*replies):
        servers.append(Endpoint(list(replies)))
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def reply(content, status=200, **headers):
    return status, headers, json.dumps({"choices": [{"message": {"content": content}}]})


def client(server, tmp_path):
    return Client(server.settings, tmp_path / "written.jsonl", wait=0.01)


def test_temporary_failures_are_tried_again_and_answers_are_kept(endpoint, tmp_path):
    busy = (429, {"Retry-After": "0"}, "busy")
    server = endpoint(busy, (None, {}, ""), reply("fine"))
    writer = client(server, tmp_path)
    assert writer.ask("why?") == "fine" and len(server.seen) == 3
    path, key, body = server.seen[-1]
    assert path == "/v1/chat/completions" and key == f"Bearer {SECRET}"
    assert body["model"] == "stand-in" and body["messages"] == [{"role": "user", "content": "why?"}]
    with (tmp_path / "written.jsonl").open("a") as file:
        file.write('["cut o')  # killed while writing
    again = client(server, tmp_path)
    assert again.ask("why?") == "fine" and len(server.seen) == 3
    assert again.ask("how?") == "fine" and len(server.seen) == 4
    assert client(server, tmp_path).ask("how?") == "fine" and len(server.seen) == 4
    assert SECRET not in (tmp_path / "written.jsonl").read_text()


@pytest.mark.parametrize(
    ("answer", "problem", "requests"),
    [
        ((401, {}, f"bad key {SECRET}"), r"HTTP 401 \(bad key \*\*\*\)", 1),
        ((503, {}, "later"), r"HTTP 503 \(later\)", 3),
        ((302, {"Location": "http://127.0.0.1:9/"}, ""), "HTTP 302", 1),
        ((200, {}, "no JSON"), "JSONDecodeError", 3),
        ((200, {}, '{"choices": []}'), r"no choices\[0\]\.message\.content", 3),
        ((200, {}, '{"choices": [{"message": {"content": 1}}]}'), r"content isn't text", 3),
    ],
)
def test_an_endpoint_that_fails_stops_with_one_message(endpoint, tmp_path, caplog, answer, problem, requests):
    server = endpoint(answer)
    with pytest.raises(UserError, match=problem) as error, caplog.at_level("INFO"):
        client(server, tmp_path).ask("why?")
    text = str(error.value)
    assert text.startswith("evaluate.exam.writer: http") and "gave no answer for stand-in" in text
    assert f"variable {KEY} (set), then run" in text and SECRET not in text + caplog.text
    assert len(server.seen) == requests


def test_nobody_there(endpoint, tmp_path, monkeypatch):
    monkeypatch.delenv(KEY)
    settings = Writer(endpoint="http://127.0.0.1:9/v1", model="m", attempts=1)
    with pytest.raises(UserError, match=r"\(not set\), then run again: answers so far are kept"):
        Client(settings, tmp_path / "written.jsonl").ask("why?")


def questions(number, **changes):
    question = {
        "question": "Which town is closest to the lake?",
        "answer": f"Bergen{number}",
        "wrong": ["Oslo", "Rome", "Bern"],
    }
    return json.dumps({"questions": [{**question, **changes}]})


def test_the_stage_asks_for_no_more_than_twice_the_items(endpoint, tmp_path):
    order = {document["id"]: document for document, _ in passages_of(DOCUMENTS)}
    pq.write_table(pa.Table.from_pylist(DOCUMENTS), tmp_path / "held_out.parquet")
    replies = [reply(questions(int(name[1]), question=f"Which town, {name}a?")) for name in order]
    server = endpoint(*replies)
    exam = Exam(items=1, writer=server.settings)
    outputs = [tmp_path / name for name in ("kept.jsonl", "candidates.jsonl", "candidates.json")]
    exam_candidates(tmp_path / "held_out.parquet", "handbook", exam, *outputs)
    rows = [json.loads(line) for line in outputs[1].open()]
    assert [row["document"] for row in rows] == list(order)[:2] and len(server.seen) == 2
    facts = json.loads(outputs[2].read_text())
    assert facts["writer"]["model"] == "stand-in" and facts["candidates"] == 2
    assert SECRET not in "".join(path.read_text() for path in outputs)


def test_questions_become_candidates():
    def ask(prompt):
        number = prompt.split("Volume ")[1][0]
        return f"Sure:\n{questions(number, question=f'Which town lies at lake {number}a?')}"

    refused = Counter()
    candidates = list(write_candidates(ask, DOCUMENTS, refused))
    assert not refused and sorted(each.document for each in candidates) == ["d0", "d1", "d2", "d3"]
    for each in candidates:
        number = each.document[1]
        assert each.pool == [f"Bergen{number}", "Oslo", "Rome", "Bern"] and each.counts == [1, 0, 0, 0]
        assert each.before == f"Question: Which town lies at lake {number}a?\nAnswer:"
        assert each.passage == DOCUMENTS[int(number)]["text"] and each.kind == "written"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"more": 1}, "the writer's answer isn't the JSON that it was asked for"),
        ({"wrong": ["Oslo", "Rome"]}, "the writer's answer isn't the JSON that it was asked for"),
        ({"wrong": ["Oslo", "Rome", 3]}, "the writer's answer isn't the JSON that it was asked for"),
        ({"wrong": ["Oslo", "oslo", "Rome"]}, "the same answer twice"),
        (
            {"wrong": ["Oslo", "Rome\nBern", "Kyiv"]},
            "an answer of several lines, or with white space around it",
        ),
        ({"answer": "Paris"}, "the answer doesn't stand in the document"),
        ({"question": "Oslo, Rome or which town?"}, "a word of an answer stands in the question"),
    ],
)
def test_written_questions_are_checked(changes, reason):
    refused = Counter()
    assert list(write_candidates(lambda prompt: questions(0, **changes), DOCUMENTS[:1], refused)) == []
    assert refused == {reason: 1}


def test_the_same_question_twice_and_nonsense_are_refused():
    refused = Counter()
    replies = iter(["I can't.", *(questions(0) for _ in range(2))])
    same = [{**DOCUMENTS[0], "id": str(number)} for number in range(3)]
    assert len(list(write_candidates(lambda prompt: next(replies), same, refused))) == 1
    assert refused == {
        "the writer's answer isn't the JSON that it was asked for": 1,
        "the same question was asked already": 1,
    }


def test_passages_are_whole_lines_of_bounded_length():
    long = {"id": "a", "url": None, "text": "word " * 1000}
    lines = {"id": "b", "url": None, "text": "first line\n" + "x" * 1400 + "\nlast line " + "y" * 200}
    passages = {document["id"]: passage for document, passage in passages_of([long, lines, *DOCUMENTS])}
    assert len(passages["a"]) <= PASSAGE and passages["a"].endswith("word")
    assert passages["b"] == "first line\n" + "x" * 1400 and passages["d0"] == DOCUMENTS[0]["text"]
    assert PROMPT.endswith("Passage:\n")


def test_a_writer_is_off_by_default_and_needs_an_address():
    assert Exam().writer is None
    with pytest.raises(ValidationError):
        Exam(writer={"endpoint": "localhost:8000", "model": "m"})
