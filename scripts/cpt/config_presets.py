"""Named values of the config's data sections: presets of `filters`, and codes of languages."""

from typing import Any

# The languages that py3langid's model knows (ISO 639).
_CODES = (
    "ace af am an ar ary arz as az ba bcl be bg bn br bs ca crh cs cy da de dz el en eo es et eu ext "
    "fa fi fo fr fuv fy ga gcf gcr gd gl gom grc gu gug guw ha hbo he hi hr ht hu hy id ig is it ja "
    "jv ka kab kik kk km kn ko ku ky la lb lg lij ln lo lt ltg lv mg mk ml mn mr ms mt my ne nl nn no "
    "nso oc om or pa pcm pl ps pt qu ro ru rw sa sdh se si sk sl sn so sq sr st sv sw ta te tg th tk "
    "tl tr tt ug uk ur uz uzs vec vi vo wa wuu xh yo yue zh zu zxx"
)
LANGUAGES = frozenset(_CODES.split())

# The rest of `web` are the defaults in cpt.config_sections. docs/filters.md explains the other values.
PRESETS: dict[str, dict[str, Any]] = {
    "web": {
        "repetition": {
            "top_ngram_character_share": {2: 0.20, 3: 0.18, 4: 0.16},
            "duplicate_ngram_character_share": {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10},
        },
    },
    # Manuals and documentation: short sections, tables, program output and a phrase repeated in each entry
    # are useful text there. The filters drop menus, tables of contents and bare lists of names.
    "reference": {
        "length": {"minimum_lines": 2, "maximum_short_line_share": 0.92},
        "repetition": {
            "duplicate_line_share": 0.55,
            "duplicate_paragraph_share": 0.50,
            "duplicate_line_character_share": 0.35,
            "duplicate_paragraph_character_share": 0.35,
            "top_ngram_character_share": {2: 0.32, 3: 0.42, 4: 0.50},
            "duplicate_ngram_character_share": {5: 0.45, 6: 0.43, 7: 0.41, 8: 0.39, 9: 0.37, 10: 0.35},
        },
    },
}


def with_preset(section: Any) -> Any:
    """Returns a `filters` section merged over its preset."""
    if not isinstance(section, dict):
        return section
    return _overlay(PRESETS.get(str(section.get("preset", "web")), {}), section)


def _overlay(below: dict, above: dict) -> dict:
    """Merge `above` over `below`, key by key.

    A key that is a number as text becomes the number, because YAML and the command line differ in that.
    A null share, which only n-grams can have here, becomes 1, which drops nothing.
    """
    both = dict(below)
    for name, value in above.items():
        key = int(name) if str(name).isdecimal() else name
        if isinstance(both.get(key), dict) and isinstance(value, dict):
            both[key] = _overlay(both[key], value)
        else:
            both[key] = 1.0 if value is None and isinstance(key, int) else value
    return both
