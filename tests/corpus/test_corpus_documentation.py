"""Documentation: read without importing the package, and unwrapped."""

import sys

import pyarrow.parquet as pq
import pytest

from cpt.config_sections import DocumentationCorpus
from cpt.corpus.documentation import SourceFile, documents_of, package_root, source_files
from cpt.corpus.reflow import reflow, strip_markup
from cpt.errors import UserError
from download import download

SOURCE = '''"""The module."""
raise SystemExit("never imported")

def add(a, b):
    """Add two numbers."""
    def inner():
        """Not documentation."""

if True:
    class Shape:
        """A shape."""
        size = 1
        def area(self):
            """Its area."""
        async def wait(self):
            """Wait for it."""
        def bare(self): ...

try:
    pass
except ImportError:
    pass
else:
    def late():
        "Defined late."

add_newdoc("numpy", "ndarray", ("mean", """
    Mean of it.

    More.
    """))
_shared_doc = """Two
lines."""
topics = {"assert": "The statement\\n*************\\n\\nText."}
print("""not
documentation""")
'''


def test_one_document_per_definition(tmp_path):
    (tmp_path / "m.py").write_text(SOURCE)
    documents = list(documents_of(SourceFile(tmp_path / "m.py", "pkg.m", "pkg/m.py")))
    assert [(document.id, document.text) for document in documents] == [
        ("pkg.m", "The module."),
        ("pkg.m.add", "Add two numbers."),
        ("pkg.m.Shape", "A shape.\n\nShape.area\n\nIts area.\n\nShape.wait\n\nWait for it."),
        ("pkg.m.late", "Defined late."),
        ("pkg.m.numpy.ndarray.mean", "Mean of it.\n\nMore."),
        ("pkg.m._shared_doc", "Two\nlines."),
        ("pkg.m.assert", "The statement\n\nText."),
    ]
    assert {document.url for document in documents} == {"pkg/m.py"}


def test_files_that_do_not_parse_are_skipped(tmp_path):
    (tmp_path / "m.py").write_bytes(b"def broken(:\n\x00")
    assert list(documents_of(SourceFile(tmp_path / "m.py", "m", "m.py"))) == []


@pytest.fixture
def package(tmp_path, monkeypatch):
    root = tmp_path / "site" / "documented_package"
    for name in ("__init__", "b", "a/__init__", "a/x", "tests/test_y", "_vendor/z", "distutils/d", "test_w"):
        path = root / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'"""The file {name}."""\nraise SystemExit("imported")\n')
    monkeypatch.syspath_prepend(str(root.parent))
    return root


def test_files_of_a_package(package):
    files = source_files(["documented_package"], "docs")
    assert [(file.module, file.url) for file in files] == [
        ("documented_package", "documented_package/__init__.py"),
        ("documented_package.a", "documented_package/a/__init__.py"),
        ("documented_package.a.x", "documented_package/a/x.py"),
        ("documented_package.b", "documented_package/b.py"),
    ]
    assert "documented_package" not in sys.modules


def test_standard_library():
    files = {file.url: file for file in source_files(["python"], "docs")}
    assert "python/json/decoder.py" in files
    assert files["python/json/decoder.py"].module == "json.decoder"
    assert not any("site-packages" in url or "/test/" in url for url in files)
    topics = {document.id: document.text for document in documents_of(files["python/pydoc_data/topics.py"])}
    assert len(topics) > 50
    statement = topics["pydoc_data.topics.assert"]
    assert statement.startswith('The "assert" statement\n\nAssert statements are a convenient way to insert')
    assert "\n    if __debug__:\n        if not expression: raise AssertionError\n" in statement


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_package", "is not installed in this environment; install it or take it off the list"),
        ("sys", "has no Python source to read; take it off the list"),
        ("scipy.stats", r"is not an import name such as numpy or sklearn \(no dots, no versions\)"),
        ("numpy>=2", r"is not an import name such as numpy or sklearn \(no dots, no versions\)"),
    ],
)
def test_bad_packages_name_the_key(name, message):
    with pytest.raises(UserError, match=rf"corpora\.docs\.packages: '{name}' {message}"):
        package_root(name, "docs")


def test_shards(tmp_path):
    source = DocumentationCorpus(source="documentation", packages=["xxhash", "tokenizers"], shards=2)
    ids = []
    for shard in (0, 1, 0):
        path = tmp_path / "x.parquet"
        download("docs", source, shard, 2, path, tmp_path / "x.json")
        ids.append((pq.read_table(path)["id"].to_pylist(), path.read_bytes()))
    assert ids[0] == ids[2]
    assert not set(ids[0][0]) & set(ids[1][0])


def test_paragraphs_are_unwrapped():
    text = """Compute the arithmetic mean of the values along the axis,
which is the flattened array by default, with intermediate
values in higher precision.

Parameters
----------
a : array_like
    Array whose mean is wanted; if it isn't an array,
    a conversion is tried.

Short line.
Another short line."""
    assert reflow(text).split("\n") == [
        "Compute the arithmetic mean of the values along the axis, which is the flattened array by default, "
        "with intermediate values in higher precision.",
        "",
        "Parameters",
        "a : array_like",
        "Array whose mean is wanted; if it isn't an array, a conversion is tried.",
        "",
        "Short line.",
        "Another short line.",
    ]


def test_examples_code_and_tables_keep_their_lines():
    text = """Use it like this, for a value that is rather long::

    first = 1
      second = 2

>>> print(np.eye(2), "and a line that is longer than forty-five")
[[1. 0.]
 [0. 1.]]

.. math:: x^2

    \\frac{a}{b}

==== ====
a    b
==== ====

This paragraph, of which the following block is an example:

   for each in everything:
       do(each)

Back to prose."""
    assert reflow(text).split("\n") == [
        "Use it like this, for a value that is rather long:",
        "",
        "    first = 1",
        "      second = 2",
        "",
        '>>> print(np.eye(2), "and a line that is longer than forty-five")',
        "[[1. 0.]",
        " [0. 1.]]",
        "",
        "x^2",
        "",
        "    \\frac{a}{b}",
        "",
        "==== ====",
        "a    b",
        "==== ====",
        "",
        "This paragraph, of which the following block is an example:",
        "",
        "    for each in everything:",
        "        do(each)",
        "",
        "Back to prose.",
    ]


def test_lists_directives_and_references():
    text = """- a first item that is long enough to have been wrapped at
  its end
- a second item
.. versionadded:: 1.2
.. note::
   Beware.
.. image:: x.png
   :width: 3
.. [1] A. Author, "A title that is long enough to be wrapped at the
       end of its line".
.. _target: https://example.org
%(placeholder)s"""
    assert reflow(text).split("\n") == [
        "- a first item that is long enough to have been wrapped at its end",
        "- a second item",
        "Added in version 1.2",
        "Note:",
        "Beware.",
        '[1] A. Author, "A title that is long enough to be wrapped at the end of its line".',
    ]


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("see :func:`~numpy.linalg.solve` and :class:`Array`", "see solve and Array"),
        (":ref:`the page <label>` and `a link <https://x.org>`_", "the page and a link"),
        ("``x = 1`` or `y`, as in [1]_", "x = 1 or y, as in [1]"),
        (":math:`x < y`", "x < y"),
    ],
)
def test_markup(text, plain):
    assert strip_markup(text) == plain
