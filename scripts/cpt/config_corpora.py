"""Checks of corpora: their shards are known, not all of their text is held out, and runs use them."""

from collections.abc import Mapping, Sequence
from typing import Any

from cpt.config_similarity import similar_corpora


def check_shards(cfg: Any) -> None:
    """Raise ValueError if a corpus of the cpt.config.Config has neither shards nor tokens_per_shard."""
    for name, corpus in cfg.corpora.items():
        if corpus.shards is None and corpus.tokens_per_shard is None:
            raise ValueError(
                f"corpora.{name}: set shards (how many of the matching files to use), or "
                "tokens_per_shard (training tokens that one file yields), from which the number follows"
            )


def check_text_is_left(cfg: Any) -> None:
    """Raise ValueError if a run of the cpt.config.Config trains on a corpus that is entirely held out."""
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
    """Returns a warning for each corpus and mixture of the last layer that the cpt.config.Config doesn't use.
    Earlier layers may define corpora and mixtures for other experiments.
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
