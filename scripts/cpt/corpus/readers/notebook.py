"""Jupyter notebooks."""

import json

from cpt.corpus.encodings import text_of
from cpt.corpus.readers.base import Block, Reader, Work
from cpt.corpus.readers.text import markdown_blocks
from cpt.errors import UserError


class NotebookReader(Reader):
    """Text and code of a notebook's cells; outputs of code are skipped."""

    format, endings = "ipynb", (".ipynb",)

    def read(self, content: bytes) -> Work:
        """The notebook, of format 3 or later. Raises UserError if it isn't one."""
        text, replaced = text_of(content)
        try:
            notebook = json.loads(text)
            sheets = notebook.get("worksheets") or [notebook]  # only format 3 has worksheets
            cells = [cell for sheet in sheets for cell in sheet["cells"]]
            work = Work([], replaced=replaced)
            for cell in cells:
                source = cell["input"] if "input" in cell else cell["source"]
                source = (source if isinstance(source, str) else "".join(source)).strip("\n")
                if cell["cell_type"] == "markdown":
                    blocks = markdown_blocks(source)
                    stripped = (Block(block.text.strip("\n"), block.level) for block in blocks)
                    work.blocks += [block for block in stripped if block.text]
                elif cell["cell_type"] == "heading":
                    work.blocks.append(Block("#" * cell["level"] + f" {source}", cell["level"]))
                else:
                    work.blocks.append(Block(source))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UserError(f"it is no notebook ({type(error).__name__}: {error}); save it again") from None
        work.title = next((block.text.strip("# \n") for block in work.blocks if block.level), "")
        return work
