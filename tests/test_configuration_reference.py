"""The configuration reference in docs/ says what the typed model and config.yaml say."""

from pathlib import Path

from cpt import config_evaluate, config_runs, config_sections
from cpt.config import Config
from cpt.config_reference import PAGES, reference

ROOT = Path(__file__).resolve().parents[1]


def test_pages_are_those_that_would_be_made_now():
    for name, text in reference((ROOT / "config.yaml").read_text()).items():
        assert (ROOT / "docs" / name).read_text() == text, f"{name}: run `make reference`"
        assert text.count("\n") <= 150, name


def test_every_top_level_key_is_in_the_index_and_every_section_on_one_page():
    sections = [name for _, _, names in PAGES.values() for name in names]
    index = reference((ROOT / "config.yaml").read_text())["configuration.md"]
    assert [name for name in Config.model_fields if f"\n| `{name}` |" not in index] == []
    assert len(sections) == len(set(sections)) and set(sections) <= set(Config.model_fields)


def test_every_key_of_every_section_is_on_a_page():
    page = "".join((ROOT / "docs" / name).read_text() for name in ["configuration.md", *PAGES])
    sections = [
        value
        for value in (vars(config_sections) | vars(config_runs) | vars(config_evaluate)).values()
        if isinstance(value, type) and issubclass(value, config_sections.Section)
    ]
    abstract = (config_sections.Section, config_sections.DataSource, config_sections.Base)
    # The pages show these inside the sections that have them.
    abstract += (config_sections.DocumentFilters, config_evaluate.Scoring)
    leaves = [section for section in [*sections, Config] if section not in abstract]
    assert len(leaves) > 25
    for section in leaves:
        rows = [f"\n| `{field.alias or name}` |" for name, field in section.model_fields.items()]
        assert any(
            all(row in "\n" + part for row in rows) for part in page.split("| --- | --- | --- | --- |")
        ), section


def unexplained(config: str) -> list[str]:
    """Rows of the pages whose key has neither a comment in config.yaml nor a description in the model."""
    rows = "".join(reference(config).values()).splitlines()
    return [row for row in rows if row.startswith("| `") and row.endswith("|  |")]


def test_every_key_of_the_model_has_a_comment_or_a_description():
    config = (ROOT / "config.yaml").read_text()
    assert unexplained(config) == [], "write a description in scripts/cpt/config*.py"
    comment = " # tokens\n  strategy"
    assert config.count(comment) == 1
    assert [row.split("`")[1] for row in unexplained(config.replace(comment, "\n  strategy"))] == [
        "sequence_length"
    ]


def test_pages_say_value_type_and_comment_of_a_key():
    text = (ROOT / "config.yaml").read_text()
    old = "sequence_length: 2_000 # tokens"
    assert text.count(old) == 1
    changed = "".join(reference(text.replace(old, "sequence_length: 1_024 # in tokens")).values())
    assert "| `sequence_length` | integer > 0 | `1024` | in tokens |" in changed
    shards = (
        "| `shards` | integer > 0 | *1* | number of shards that share the sorted files, at most one a file |"
    )
    assert shards in changed
    assert "| `every` | count > 0 | `20M` | training tokens between two measurements |" in changed
