"""What a stage dropped and why: a table of counts, and examples to read."""

import json
from collections.abc import Sequence
from pathlib import Path

from cpt.files import write_text

EXAMPLES = 10  # per rule
EXAMPLE_CHARACTERS = 2_000


class DropTable:
    """Counts documents and one more quantity (bytes or tokens) per rule, and keeps examples.

    Every document is counted once under `read` and once under a rule or under `kept`.
    """

    def __init__(self, rules: Sequence[str], quantity: str):
        self.quantity = quantity
        self.counts = {rule: [0, 0] for rule in ("read", *rules, "kept")}
        self.examples: dict[str, list[dict]] = {rule: [] for rule in rules}

    @property
    def read(self) -> int:
        """Documents counted so far."""
        return self.counts["read"][0]

    def count(self, rule: str, amount: int) -> None:
        """Count a document under `rule` (or `kept`) and under `read`."""
        for name in ("read", rule):
            self.counts[name][0] += 1
            self.counts[name][1] += amount

    def wants(self, rule: str) -> bool:
        """Whether there is room for one more example of a rule."""
        return len(self.examples[rule]) < EXAMPLES

    def example(
        self, rule: str, value: float | None, threshold: float, name: str | None, url: str | None, text: str
    ) -> None:
        """Keep the document as an example, unless the rule has enough."""
        if self.wants(rule):
            self.examples[rule].append(
                {
                    "rule": rule,
                    "value": value,
                    "threshold": threshold,
                    "id": name,
                    "url": url,
                    "text": text[:EXAMPLE_CHARACTERS],
                }
            )

    def write(self, table: Path, examples: Path) -> None:
        """Write the counts as CSV and the examples as JSON lines."""
        lines = [f"rule,documents,{self.quantity}"]
        lines += [f"{rule},{documents},{amount}" for rule, (documents, amount) in self.counts.items()]
        write_text(table, "\n".join(lines) + "\n")
        kept = [json.dumps(entry, ensure_ascii=False) for rule in self.examples.values() for entry in rule]
        write_text(examples, "".join(f"{line}\n" for line in kept))
