import tempfile
from pathlib import Path

from cpt.command import run
from cpt.config_sections import Classifier, HubClassifier
from cpt.files import atomic, write_json
from cpt.model.classifier import load_classifier
from cpt.model.sources import snapshot
from cpt.provenance import provenance


def import_classifier(source: Classifier, classifier: Path, report: Path) -> None:
    """Fetch the classifier that gives documents their `edu_score`, and check that it can be used.

    Args:
        source: the config's `classifier`.
        classifier: folder to write.
        report: where the classifier comes from (.json), to write.
    """
    facts = {"revision": None, "licence": None}
    with tempfile.TemporaryDirectory(prefix="classifier-") as temporary, atomic(classifier) as folder:
        if isinstance(source, HubClassifier):
            original, facts = snapshot(source.repo, source.revision, Path(temporary), "classifier")
        else:
            original = Path(source.path)
        for part in load_classifier(original):
            part.save_pretrained(folder)
    write_json(report, {"source": source, **facts, "provenance": provenance(source)})


if __name__ == "__main__":
    run(import_classifier)
