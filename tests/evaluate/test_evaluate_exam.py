"""What an exam asks about documents, and each check of a text with a document that fails it."""

from collections import Counter

import pytest
from exam_documents import CITIES, DOCUMENTS, TRADES, YEARS, document, invented

from cpt.evaluate.exam_candidates import Candidate, Index, Shown, propose
from cpt.evaluate.exam_text import Words, cased_share, sentences_of, spans_of, words_of


def places(text: str, others: str = "") -> list[tuple[str, str]]:
    """(kind, answer) of everything in a text that an exam can ask about."""
    words = Words([text, others])
    return [(span.kind, text[span.begin : span.end]) for span in spans_of(text, words, cased=True)]


def proposed(*texts: str) -> tuple[list[Candidate], Counter]:
    """The candidates of documents with these texts, and the refusals."""
    documents = [{"id": str(n), "url": None, "text": text} for n, text in enumerate(texts)]
    refused: Counter = Counter()
    return list(propose(documents, Index(documents), refused)), refused


# ------------------------------------------------------------------------------ what is asked about
def test_names_numbers_terms_and_headings_are_found():
    assert set(places(document(3), document(4) + document(5))) == {
        ("entity", "Prague"),
        ("number", "1867"),
        ("term", "millinga"),
        ("heading", f"Customs {invented(3)} {invented(63)} quarter"),
    }


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Paris was at that time a small and rather quiet town.", "Paris"),  # at the beginning
        ("This is shown for the whole of the range in Figure seven here.", "Figure"),  # also in lower case
        ("It holds until March, April and many more of the months pass by.", "March, April"),
        (">>> print the value of Newton and the roots of all of them.", "Newton"),  # code
        ("A short one by Newton.", "Newton"),
        ("[3] Some of the papers of that time were written by Newton and others.", "Newton"),
        ("The first of these were Oxford, A. B. and Keynes, J. M. of the same year.", "Keynes"),
        ("It was said in the report of that year by Douglas R and by others.", "Douglas R"),
        ("None of the people here was at any time called upon, as far as we know.", "upon"),
        ("The value is described in many of the books on it [12] and papers.", "12"),  # a reference
        ("The table has 7 rows and the columns that were named in the text.", "7"),  # guessed too often
        ("It was measured at 3.5e12 by most of the groups that looked at it.", "3.5"),
    ],
)
def test_what_is_no_name_or_number_is_not_asked_about(text, answer):
    assert answer not in [phrase for _, phrase in places(text, "a figure")]


def test_a_term_is_explained_by_a_line_or_a_sentence():
    assert ("term", "axis") in places(
        "Sum of things\n\naxis : int\nWhat the values are summed over.", document(4)
    )
    assert places("The layer that lies above all of these others is known as the outer crust.") == [
        ("term", "outer crust")
    ]
    assert not places("It is called in the same way as the other one of the two methods.")


def test_sentences_end_at_marks_and_not_at_abbreviations():
    text = "See e.g. the work of J. Smith here. It is good! 这是第一句。这是第二句。"
    assert [text[begin:end] for begin, end in sentences_of(text, 0, len(text))] == [
        "See e.g. the work of J. Smith here.",
        "It is good!",
        "这是第一句。",
        "这是第二句。",
    ]


def test_scripts_without_capitals_have_no_names_and_a_notice():
    chinese = "这座桥在 1867 年由当地的石匠建成，那时候河水每隔一个冬天就会结冰。\n"  # noqa: RUF001
    assert cased_share([chinese]) == 0 and cased_share(["Abc"]) == 1 and cased_share(["123"]) == 0
    index = Index([{"id": "a", "url": None, "text": chinese}])
    assert {place.span.kind for place in index.places} == {"number"}
    assert "is written without capitals, by which names are found" in index.notices("handbook")[0]
    assert Index(DOCUMENTS).notices("handbook") == []
    assert words_of("这座 Bridge's") == ["这", "座", "bridge's"]


# ----------------------------------------------------------------------------------- checks of text
def test_candidates_hold_the_text_and_wrong_answers_of_the_same_kind():
    candidates, _ = proposed(*(each["text"] for each in DOCUMENTS[:10]))
    assert {each.kind for each in candidates} == {"entity", "number", "term"}  # headings share words here
    for each in candidates:
        text = DOCUMENTS[int(each.document)]["text"]
        shown = each.before.split("\n\n", 1)[1]
        assert f"{shown}{each.space}{each.pool[0]}{each.after}" in text and each.pool[0] in each.passage
        same_kind = {"entity": CITIES, "number": YEARS}.get(each.kind, [f"{trade}a" for trade in TRADES])
        assert set(each.pool) <= {*same_kind, *(f"{trade}b" for trade in TRADES)} and len(each.pool) >= 4
        assert each.before.startswith("The archive volume")


SENTENCE = "The oldest bridge of all the land was built by masons near {} when the river froze."


def cities(*names: str) -> list[str]:
    return [f"Volume {name[0].lower()}\n\n{SENTENCE.format(name)}" for name in names]


def reasons(*texts: str) -> Counter:
    return proposed(*texts)[1]


OTHERS = [
    f"Page of more\n\nSome {word} were brought along from {city} by boat in the early days."
    for word, city in zip(["apples", "pears", "plums", "figs", "nuts"], CITIES, strict=False)
]


def test_an_answer_that_is_in_the_question_is_refused():
    text = "Walls of Zagrebia\n\nThe oldest bridge near Zagrebia was built by masons of Zagrebia in a year."
    assert reasons(text, *OTHERS)["a word of the answer stands in the question"] == 2
    assert Shown.of("Some states").has("United States") and not Shown.of("Of the man").has("Isle of Man")
    assert Shown.of("12 men").has("12") and not Shown.of("112 men").has("12")
    assert Shown.of("这座桥在河上").has("河上") and not Shown.of("这座桥在河上").has("河桥")


def test_wrong_answers_are_not_in_the_question():
    text = f"Volume of {CITIES[0]}\n\n" + SENTENCE.format("Utrecht")
    (candidate,) = [each for each in proposed(text, *OTHERS)[0] if each.pool[0] == "Utrecht"]
    assert CITIES[0] not in candidate.pool and set(candidate.pool[1:]) == set(CITIES[1:5])


def test_wrong_answers_are_not_right_elsewhere():
    """An answer that elsewhere has the same three words before or after it would be right there."""
    same_before = "Page of more\n\nEverything that was built by masons near Kharkiv is still there, they say."
    same_after = "Page of more\n\nAll were glad in Utrecht when the river froze over in the first week."
    candidates, _ = proposed(*cities("Bergen"), *OTHERS, same_before, same_after)
    (bergen,) = [each for each in candidates if each.pool[0] == "Bergen"]
    assert set(bergen.pool[1:]) == set(CITIES[:5])


def varied(name: str) -> str:
    """A document with a name between words that occur nowhere else."""
    word = invented(len(name) + 7 * ord(name[0]) % 300)
    return (
        f"Page of {word}\n\nIt was brought along {word} from {name} {word} by boat in the early days of it."
    )


def test_wrong_answers_share_no_word_and_fit_the_article():
    names = ["Bergen North", "Bergen Sound", "Lake Como", "Lake Garda", "Red Bay", "High Peak", "Old Hill"]
    candidates, _ = proposed(*map(varied, names))
    (north,) = [each for each in candidates if each.pool[0] == "Bergen North"]
    assert set(north.pool[1:]) == set(names[2:])
    article = "Page of more\n\nThat it froze was once reported by an {} writer of those early days here."
    candidates, _ = proposed(
        article.format("Icelandic"),
        *map(varied, ["Italian", "Indian", "Irishman", "German", "Danish"]),
    )
    (icelandic,) = [each for each in candidates if each.pool[0] == "Icelandic"]
    assert set(icelandic.pool[1:]) == {"Italian", "Indian", "Irishman"}


def test_half_of_the_wrong_answers_are_as_frequent_as_the_right_one():
    rare = ["Turku", "Gdynia", "Malmo", "Bremen", "Aarhus", "Rostock", "Narva", "Visby", "Kalmar", "Lund"]
    names = [*rare, *CITIES[:5] * 3]
    text = "Page of {0}\n\nIt was brought along {0} from {1} {0} by boat in the early days of it."
    candidates, _ = proposed(*(text.format(invented(number), name) for number, name in enumerate(names)))
    for each in candidates:
        others = set(each.pool[1:])
        assert len(others) == 8
        assert len(others & set(CITIES)) == 4 if each.pool[0] in CITIES else len(others & set(rare)) > 0


def test_too_few_wrong_answers_are_refused():
    assert reasons(*cities("Bergen"), *OTHERS[:2])["fewer than three wrong answers of its kind"] == 3


def test_a_sentence_and_a_question_come_once():
    two = "Page of more\n\nSome salt came over here from Bergen in boats to Utrecht before the early days."
    assert reasons(two, *OTHERS)["its sentence has a question already"] == 1
    twice = [f"Volume {n}\n\n{SENTENCE.format(city)}" for n, city in (("a", "Bergen"), ("b", "Utrecht"))]
    assert reasons(*twice, *OTHERS)["the same question was asked already"] == 1


def test_headings_of_many_documents_are_refused():
    long = (
        "It is a long story which is told here in more words than anybody would have needed to say that " * 2
    )
    texts = [f"Volume {n}\n\nSome line of text stands here first\n\nNotes\n\n{n} {long}." for n in "abc"]
    assert reasons(*texts)["many documents have the same heading or term"] == 3


def test_a_blank_needs_text_before_it():
    assert (
        reasons("It was Bergen where people lived for many years without any of it.", *OTHERS)[
            "too little text before the blank"
        ]
        == 1
    )
