"""What must hold for corpora: their shards are known, not all of their text is held out, they are used."""

from collections.abc import Mapping, Sequence
from typing import Any

from cpt.config_similarity import similar_corpora


def check_shards(cfg: Any) -> None:
    """Raises ValueError if nothing says how many files of a corpus of the cpt.config.Config are used."""
    for name, corpus in cfg.corpora.items():
        if corpus.shards is None and corpus.tokens_per_shard is None:
            raise ValueError(
                f"corpora.{name}: set shards (how many of the matching files to use), or "
                "tokens_per_shard (training tokens that one file yields), from which the number follows"
            )


def check_text_is_left(cfg: Any) -> None:
    """Raises ValueError if a run of the cpt.config.Config trains on a corpus that is held out as a whole."""
    for run in cfg.trained_runs:
        for mixture in cfg.mixtures_of(run):
            for corpus, share in cfg.mixtures[mixture].items():
                if share and cfg.held_out_settings(corpus).share == 1:
                    own = cfg.corpora[corpus].held_out_share is not None
                    key = f"corpora.{corpus}.held_out_share" if own else "held_out.share"
                    raise ValueError(
                        f"{key}: 1 keeps all of {corpus} out of training, but run {run} trains on it; lower "
                        f"the share, or take {corpus} out of mixtures.{mixture}"
                    )


def unused_text(cfg: Any, layers: Sequence[Mapping[str, Any]]) -> list[str]:
    """What is likely a mistake: corpora and mixtures of the last layer that nothing of the cpt.config.Config
    uses. Those of earlier layers may be there for other experiments.
    """
    last = next((layer for layer in reversed(layers) if layer), {})
    mixture_corpora = {corpus for shares in cfg.mixtures.values() for corpus in shares}
    similar = similar_corpora(cfg.corpora, cfg.domain).values()
    trained = {mixture for run in cfg.trained_runs for mixture in cfg.mixtures_of(run)}
    corpora = [name for name in cfg.corpora if name not in {*cfg.used_corpora, *mixture_corpora, *similar}]
    mixtures = [name for name in cfg.mixtures if name not in trained]
    return [
        *(
            f"corpora.{name}: no mixture has it, and nothing else uses it; add it to one, or remove it"
            for name in corpora
            if name in (last.get("corpora") or ())
        ),
        *(
            f"mixtures.{name}: no run trains on it; set `mixture` of one to {name}, or remove it"
            for name in mixtures
            if name in (last.get("mixtures") or ())
        ),
    ]
