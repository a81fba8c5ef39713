"""Decodes bytes to text: byte-order marks, declared encodings, and content that isn't text."""

import codecs
import re
import unicodedata

from cpt.errors import UserError

BYTE_ORDER_MARK = "\ufeff"
# A wrong encoding breaks a character in nearly every word; damage breaks one now and then.
MOST_REPLACED = 0.01  # of the characters
WIDE = ("UTF-32LE", "UTF-32BE", "UTF-16LE", "UTF-16BE")  # that are recognised without a byte-order mark
_POINTERS = {
    b"version https://git-lfs.github.com/spec/": ("Git LFS", "git lfs pull"),
    b"/annex/objects/": ("git-annex", "git annex get"),
}
_SURROGATE = re.compile("[\ud800-\udfff]")


def wide_encoding(content: bytes) -> str | None:
    """`utf-16` or `utf-32` if the bytes begin with its byte-order mark, else None. No UTF-8 begins so."""
    if content.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "utf-32"
    return "utf-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else None


def valid_text(value: str | bytes | None) -> tuple[str | None, bool]:
    """`value` as text that UTF-8 can hold, and whether characters in it were replaced.

    Bytes that begin with the byte-order mark of UTF-16 or UTF-32 are decoded as such. Bytes that aren't UTF-8
    and lone surrogates become U+FFFD; None stays None.
    """
    if value is None:
        return None, False
    if isinstance(value, bytes) and (encoding := wide_encoding(value)):
        text = value.decode(encoding, errors="replace")
        return text, "\ufffd" in text
    try:
        text = value.decode() if isinstance(value, bytes) else value
        text.encode()
        return text, False
    except UnicodeDecodeError:
        return value.decode(errors="replace"), True
    except UnicodeEncodeError:
        return _SURROGATE.sub("\ufffd", value), True


def pointed_to(beginning: bytes) -> str | None:
    """The problem and remedy if a file is only a pointer to its content (Git LFS, git-annex); else None."""
    for mark, (tool, command) in _POINTERS.items():
        if beginning.startswith(mark):
            return f"a pointer of {tool}, not the file itself; run `{command}` where the files lie"
    return None


def text_of(content: bytes, declared: str | None = None) -> tuple[str, int]:
    """The text of a file, without byte-order marks, and the number of replaced characters.

    Args:
        content: the file's bytes.
        declared: the encoding that the file names (None: UTF-8); a UTF-16 or UTF-32 byte-order mark wins.

    Raises:
        UserError: the file isn't in that encoding, or it isn't text.
    """
    encoding = wide_encoding(content) or declared or "utf-8"
    try:
        text = content.decode(encoding, errors="replace")
    except LookupError:
        raise UserError(f"it names an unknown encoding, {encoding}; write it again as UTF-8") from None
    if "\0" in text:
        wide = next((name for name in WIDE if _reads_as(content, name)), None)
        raise UserError(
            f"it seems to be {wide} without a byte-order mark; convert it: iconv -f {wide} -t UTF-8 FILE"
            if wide
            else "it holds NUL characters, so it is no text; name files of text alone"
        )
    written = content.count("\ufffd".encode()) if encoding == "utf-8" else 0
    replaced = text.count("\ufffd") - written
    if replaced > MOST_REPLACED * len(text):
        raise UserError(
            f"it is not {encoding.upper()} ({replaced:,} of {len(text):,} characters can't be read); convert "
            f"it: iconv -f {_guess(content) or 'ENCODING'} -t UTF-8 FILE"
        )
    # Concatenated files keep the mark of each, at the beginning of a line; elsewhere it is a character.
    return re.sub(f"(?m)^{BYTE_ORDER_MARK}+", "", text), replaced


def _reads_as(content: bytes, encoding: str) -> bool:
    """Whether an encoding gives only assigned characters, and as much white space as text has."""
    sample = content[:4096].decode(encoding, errors="ignore")
    odd = sum(unicodedata.category(sign) in ("Cc", "Cn", "Co") and sign not in "\t\n\r\f" for sign in sample)
    return not odd and sum(sign in " \n\t" for sign in sample) > len(sample) // 100


def _guess(content: bytes) -> str | None:
    from charset_normalizer import from_bytes

    best = from_bytes(content[:65536]).best()
    return best.encoding.upper() if best else None
