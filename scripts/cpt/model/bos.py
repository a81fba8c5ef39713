"""Decides whether BOS precedes each document: as the model was trained, and its tokenizer with it."""

import json
import logging
from typing import Any

from tokenizers import Tokenizer

from cpt.errors import UserError
from cpt.model.checks import loss_limit, losses_on_known_text
from cpt.model.loaded import Loaded
from cpt.model.tokenizer_files import begins_with


def settle_bos(loaded: Loaded, add_bos: bool | None, scored_with_bos: bool | None) -> dict[str, Any]:
    """Decide whether BOS precedes each document, and make the model's tokenizer do the same.

    `add_bos` None: as the model was trained. Its tokenizer shows that, or its loss on ordinary text, if that
    is good only after BOS. A BOS that is also the document separator is never added a second time.

    Args:
        loaded: the model; its tokenizer's post-processor is changed.
        add_bos: the config's `packing.add_bos`.
        scored_with_bos: the config's `evaluate.add_bos_token`; None: nothing is scored.

    Returns lines for the import report. Raises UserError if the config contradicts what the model needs.
    """
    tokenizer = loaded.tokenizer
    bos, limit = tokenizer.bos_token_id, loss_limit(loaded.model.config)
    own = bos is not None and bos != tokenizer.eos_token_id
    if not own:
        if add_bos:
            why = "has no BOS token"
            if bos is not None:
                why = f"separates documents by its BOS, {tokenizer.bos_token!r}"
            raise UserError(f"packing.add_bos: true, but the base model {why}; set it to null")
        return {"adds_bos": False}
    losses = losses_on_known_text(loaded.model, tokenizer)
    needed = losses["with_bos"] < limit <= losses["without_bos"]
    adds = (loaded.adds_bos or needed) if add_bos is None else add_bos
    if needed and not adds:
        raise UserError(
            "packing.add_bos: false, but the base model needs BOS before a text: its loss on ordinary "
            f"English is {losses['without_bos']:.2f} nats per token without it, {losses['with_bos']:.2f} "
            "with it; set it to null"
        )
    if scored_with_bos is not None and scored_with_bos != adds:
        _report_contradiction(adds, needed)
    name = tokenizer.bos_token
    if begins_with(tokenizer.backend_tokenizer, name) != adds:
        _set_post_processor(tokenizer.backend_tokenizer, name, adds)
        loaded.repairs.append(
            f"tokenizer: adds {name!r} before a text, as documents have it"
            if adds
            else f"tokenizer: doesn't add {name!r} before a text, as documents have none"
        )
    if loaded.settings.get("add_bos_token", adds) != adds:
        loaded.settings["add_bos_token"] = adds
    rounded = {f"loss_on_known_text_{key}": round(loss, 4) for key, loss in losses.items()}
    return {"adds_bos": adds, "needs_bos": needed, **rounded}


def other_start(facts: dict[str, Any]) -> str:
    """Returns the loss of the rejected choice, as text for a message; `facts` come from settle_bos."""
    if "needs_bos" not in facts:
        return ""
    key = "without_bos" if facts["adds_bos"] else "with_bos"
    return f" ({facts[f'loss_on_known_text_{key}']:.2f} {key.replace('_bos', ' BOS')})"


def _report_contradiction(adds: bool, needed: bool) -> None:
    setting = f"evaluate.add_bos_token: {str(not adds).lower()}"
    if needed:
        raise UserError(
            f"{setting}, but the base model needs BOS before a text, or its scores are near chance; set it "
            "to true"
        )
    logging.warning(
        "warning: %s, but the documents that are trained on have %s before them (packing.add_bos); scores "
        "are comparable with published ones only if those were measured so",
        setting,
        "BOS" if adds else "no BOS",
    )


def _set_post_processor(backend: Tokenizer, bos: str, adds: bool) -> None:
    """Make the tokenizer add BOS before a text, or not. The ids of the text itself don't change."""
    content = json.loads(backend.to_str())
    processor = content["post_processor"]
    if adds:
        piece = {"SpecialToken": {"id": bos, "type_id": 0}}
        first, second = {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}
        template = {
            "type": "TemplateProcessing",
            "single": [piece, first],
            "pair": [piece, first, {"SpecialToken": {"id": bos, "type_id": 1}}, second],
            "special_tokens": {bos: {"id": bos, "ids": [backend.token_to_id(bos)], "tokens": [bos]}},
        }
        before = [processor] if processor else []
        content["post_processor"] = {"type": "Sequence", "processors": [*before, template]}
    else:
        for part in processor.get("processors", [processor]):
            for kind in {"single", "pair"} & part.keys():
                part[kind] = [piece for piece in part[kind] if piece.get("SpecialToken", {}).get("id") != bos]
    backend.post_processor = Tokenizer.from_str(json.dumps(content)).post_processor
