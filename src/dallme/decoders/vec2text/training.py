"""Training an inverter: first the hypothesizer, then, with its own texts to correct, the corrector.

Reference: Morris et al. (2023), sections 3 and 4.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dallme.data import LabelledTexts
from dallme.decoders.vec2text.backbones import TrainingOptions, find_preset, make_base
from dallme.decoders.vec2text.checkpoint import check_new, save, try_writing
from dallme.decoders.vec2text.corpus import Corpus, Embed, draw_passages, make_corpus, split_texts
from dallme.decoders.vec2text.model import InverterConfig
from dallme.decoders.vec2text.state import Checkpoints
from dallme.embedders.base import Embedder
from dallme.files.atomic import sha256_of
from dallme.progress import Progress, SilentProgress

if TYPE_CHECKING:
    import torch

    from dallme.decoders.vec2text.model import InverterModel

__all__ = ["TrainingOptions", "train_inverter"]


def train_inverter(
    texts: LabelledTexts | Sequence[str],
    embedder: Embedder,
    output: Path | str,
    *,
    name: str | None = None,
    embed: Embed | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> InverterConfig:
    """Trains an inverter for an embedder and writes it to a folder.

    Checkpoints are kept in ``OUTPUT.partial`` until it is done. With `steps` or `epochs`, the same texts,
    options and seed give the same bytes on one machine, however often the training was killed and resumed.

    Args:
        texts: Texts that it learns to write; labels are not used.
        embedder: Embedder whose vectors it learns to read.
        output: The folder.
        name: The embedder's name for users; by default its own name.
        embed: Texts to vectors of shape (n, d) with the options' prompt, as from a store; by default the
            embedder's method.
        resume: Whether to continue from the checkpoint of an earlier run, if there is one.
        overwrite: Whether to replace an inverter in `output`, or a checkpoint.
        progress: Where to show progress, losses and samples.
        options: Fields of :class:`~dallme.decoders.vec2text.backbones.TrainingOptions`.

    Returns:
        The record of the inverter, with its scores on held-out texts.

    Raises:
        InputError: If an option or the texts cannot be used, or a checkpoint is of another training.
        OutputError: If `output` exists, or cannot be written.
        DallmeError: If there is no such base.
    """
    import torch

    from dallme.decoders.vec2text.model import InverterModel
    from dallme.decoders.vec2text.stages import ProcessGroup, Trainer

    output, resolved = Path(output), TrainingOptions(**options).resolved()
    check_new(output, overwrite=overwrite)
    processes = ProcessGroup.join(resolved.device)
    preset = find_preset(resolved.preset)
    progress = progress if progress and processes.first else SilentProgress()
    fingerprint = embedder.fingerprint(resolved.prompt)
    embed_again = partial(embedder.embed, prompt=resolved.prompt)
    source, rows = (
        (texts.public_source, texts.texts) if isinstance(texts, LabelledTexts) else ("memory", texts)
    )
    training, held_out = split_texts(rows, resolved.seed)
    training += draw_passages(training, resolved.passages, resolved.seed)
    digest = sha256_of([json.dumps(training)])
    record = asdict(resolved) | {"embedder": fingerprint.digest, "data": digest}
    checkpoints = Checkpoints(output.with_name(f"{output.name}.partial"))
    with ExitStack() as stack, torch.random.fork_rng():
        processes.shared(lambda: stack.enter_context(checkpoints.lock()))
        processes.shared(lambda: try_writing(output))
        for note in processes.shared(lambda: checkpoints.open(record, resume=resume, overwrite=overwrite)):
            progress.note(note)
        torch.manual_seed(resolved.seed)
        language_model, tokenizer, kind = make_base(str(resolved.base), training, embedder, preset=preset)
        model = InverterModel(language_model, kind, fingerprint.dimension, preset.pseudo_tokens)
        prepare_model(model, resolved, processes.device)
        assert resolved.max_tokens is not None
        with processes.in_turn():
            corpus, held_out_corpus = (
                make_corpus(part, tokenizer, model.eos_id, resolved.max_tokens, embed or embed_again)
                for part in (training, held_out)
            )
        progress.note(_describe(model, corpus, resolved))
        trainer = Trainer(
            model, tokenizer, corpus, held_out_corpus, embed_again, checkpoints, resolved, progress, processes
        )
        scores, history = trainer.run()
        config = InverterConfig(
            embedder=name or embedder.name,
            fingerprint=fingerprint,
            base=str(resolved.base),
            kind=kind,
            pseudo_tokens=preset.pseudo_tokens,
            max_tokens=resolved.max_tokens,
            corrects=resolved.correct,
            training=_training_record(source, corpus, held_out_corpus, resolved, history),
            scores=scores,
            prompt=resolved.prompt,
        )
        if hasattr(model.language_model, "merge_and_unload"):  # LoRA adapters
            model.language_model = model.language_model.merge_and_unload()

        def finish() -> None:
            save(output, model, tokenizer, config, overwrite=overwrite)
            checkpoints.close()

        processes.shared(finish)
    return config


def prepare_model(model: InverterModel, options: TrainingOptions, device: torch.device) -> None:
    """Sets the dropout, adds adapters if wanted, and moves the model to its device."""
    import torch

    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = options.dropout
    if device.type == "cpu":  # on short texts 1.5 times as fast there as torch's fused attention
        model.language_model.set_attn_implementation("eager")
    if options.lora_rank is not None:
        from peft import LoraConfig, get_peft_model

        rank = options.lora_rank
        adapters = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear")
        model.language_model = get_peft_model(model.language_model, adapters)
    model.to(device)


def _describe(model: InverterModel, corpus: Corpus, options: TrainingOptions) -> str:
    weights = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    tokens = float(corpus.lengths.mean())
    return (
        f"{weights:.1f} million weights from {options.base}; "
        f"{len(corpus):,} texts of {tokens:.0f} tokens on average"
    )


def _training_record(
    source: str, corpus: Corpus, held_out: Corpus, options: TrainingOptions, history: list[dict[str, Any]]
) -> dict[str, Any]:
    """Describes data and training for the card."""
    recorded = {
        key: value
        for key, value in asdict(options).items()
        if value is not None and key not in ("save_every", "patience")
    }
    return (
        {"source": source, "texts": len(corpus), "held_out": len(held_out)} | recorded | {"history": history}
    )
