"""Training an inverter: first the hypothesizer, then, with its own texts to correct, the corrector.

Reference: Morris et al. (2023), sections 3 and 4; the paper's section 4 for when to stop.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dallme.atomic import sha256_of
from dallme.data import LabelledTexts
from dallme.decoders.vec2text.backbones import find_preset, make_base
from dallme.decoders.vec2text.checkpoint import Checkpoints, check_new, save
from dallme.decoders.vec2text.corpus import Corpus, Embed, draw_passages, make_corpus, split_texts
from dallme.decoders.vec2text.model import InverterConfig
from dallme.decoders.vec2text.stages import Stages
from dallme.embedders.base import Embedder
from dallme.errors import InputError
from dallme.models.devices import check_device
from dallme.progress import Progress, SilentProgress
from dallme.validation import check_positive, check_seed

if TYPE_CHECKING:
    import torch

    from dallme.decoders.vec2text.model import InverterModel

#: Share of a training that the hypothesizer gets where the time is given and a corrector is wanted.
_FIRST_SHARE = 0.6

#: Peaks of the learning rate: for a model that knows nothing, one that never wrote, and one that writes well.
_LEARNING_RATES = {"scratch": 1e-3, "embedder": 5e-4}
_LEARNING_RATE = 2e-4


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """How an inverter is trained. What is None is as the preset or the base has it.

    Attributes:
        preset: One of :data:`~dallme.decoders.vec2text.backbones.PRESETS`.
        base: What the language model is started from, see :func:`~dallme.decoders.vec2text.backbones.make_base`.
        correct: Whether a corrector is trained after the hypothesizer.
        steps: Optimizer steps of each stage.
        epochs: Passes over the texts in each stage, in place of `steps`.
        minutes: Time of both stages together, in place of `steps`; such a training is not repeated byte by byte.
        batch_size: Texts a step.
        learning_rate: Peak of the linear schedule.
        max_tokens: Tokens that are learnt of a text, its end included.
        noise: Length of the Gaussian noise put on the target vectors.
        mix: Share of the batches whose targets are mixed with the mean of their neighbours, in [0, 1].
        dropout: Share of the activations that are dropped, in [0, 1), where the base has such layers.
        prompt: Task-specific prompt that the texts are embedded with: a template's name or a text.
        passages: Passages that are learnt of each training text beside the text itself: whole sentences from a random one on.
        lora_rank: Rank of LoRA adapters, in place of training all weights.
        drafts: Most training texts that the corrector sees the model's own hypotheses of.
        patience: Measurements (ten a stage) with neither a better BLEU nor a lower loss after which a stage ends.
        save_every: Steps between checkpoints.
        seed: Seed of every random choice.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        precision: ``auto``, ``bfloat16`` or ``float32``.
    """

    preset: str = "small"
    base: str | None = None
    correct: bool = True
    steps: int | None = None
    epochs: int | None = None
    minutes: float | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    max_tokens: int | None = None
    noise: float = 0.0
    mix: float = 0.0
    dropout: float = 0.1
    prompt: str | None = None
    passages: int = 0
    lora_rank: int | None = None
    drafts: int = 4_000
    patience: int = 4
    save_every: int = 200
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"

    def __post_init__(self) -> None:
        """Checks the options; nothing is loaded."""
        find_preset(self.preset)
        check_seed(self.seed)
        check_device(self.device, self.precision)
        for name in (
            "steps",
            "epochs",
            "batch_size",
            "max_tokens",
            "lora_rank",
            "drafts",
            "patience",
            "save_every",
        ):
            if getattr(self, name) is not None:
                check_positive(getattr(self, name), name)
        given = [name for name in ("steps", "epochs", "minutes") if getattr(self, name) is not None]
        if len(given) > 1:
            raise InputError(f"expected one of steps, epochs and minutes, found {' and '.join(given)}")
        for name in ("minutes", "learning_rate"):
            if (value := getattr(self, name)) is not None and not value > 0:
                raise InputError(f"expected {name} above 0, found {value!r}")
        if not 0 <= self.mix <= 1:
            raise InputError(f"expected mix as a share of the batches in [0, 1], found {self.mix!r}")
        if not 0 <= self.dropout < 1:
            raise InputError(f"expected dropout in [0, 1), found {self.dropout!r}")
        if self.passages:
            check_positive(self.passages, "passages")
        if not 0 <= self.noise < float("inf"):
            raise InputError(f"expected noise of at least 0, found {self.noise!r}")

    def resolved(self) -> TrainingOptions:
        """The same with nothing left to the preset and the base, but for the length of the training."""
        preset = find_preset(self.preset)
        base = self.base or preset.base
        return replace(
            self,
            base=base,
            batch_size=self.batch_size or preset.batch_size,
            max_tokens=self.max_tokens or preset.max_tokens,
            learning_rate=self.learning_rate or _LEARNING_RATES.get(base, _LEARNING_RATE),
        )

    def stage_steps(self, stage: int, rows: int) -> int | None:
        """Optimizer steps of stage 1 or 2 on that many texts; None where minutes count."""
        if self.minutes is not None:
            return None
        if self.epochs is not None:
            assert self.batch_size is not None
            return self.epochs * -(-rows // self.batch_size)
        return self.steps or find_preset(self.preset).steps[stage - 1]

    def stage_seconds(self, stage: int) -> float | None:
        """Seconds of stage 1 or 2; None where steps count."""
        if self.minutes is None:
            return None
        share = 1.0 if not self.correct else _FIRST_SHARE if stage == 1 else 1 - _FIRST_SHARE
        return self.minutes * 60 * share


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

    Checkpoints stand in ``OUTPUT.partial`` until it is done. With `steps` or `epochs`, the same texts, options and seed give the
    same bytes on one machine, however often the training was killed and resumed.

    Args:
        texts: What it learns to write; labels are not used.
        embedder: What made the vectors that it learns to read.
        output: The folder.
        name: What users call the embedder; by default its own name.
        embed: Texts to vectors of shape (n, d) with the options' prompt, for one that keeps them in a store; by default the
            embedder's own method.
        resume: Whether to go on from the checkpoint of an earlier run, if there is one.
        overwrite: Whether an inverter in `output`, or a checkpoint, is replaced.
        progress: Where to show progress, losses and samples.
        options: Fields of :class:`TrainingOptions`.

    Returns:
        What was written as the inverter's record, held-out scores included.

    Raises:
        InputError: If an option or the texts cannot be used, or a checkpoint is of another training.
        OutputError: If `output` is there already, or cannot be written.
        DallmeError: If the base is nowhere.
    """
    import torch

    from dallme.decoders.vec2text.model import InverterModel
    from dallme.decoders.vec2text.stages import Processes

    output, chosen = Path(output), TrainingOptions(**options).resolved()
    check_new(output, overwrite=overwrite)
    processes = Processes.join(chosen.device)
    preset, progress = (
        find_preset(chosen.preset),
        progress if progress and processes.first else SilentProgress(),
    )
    fingerprint, again = embedder.fingerprint(chosen.prompt), partial(embedder.embed, prompt=chosen.prompt)
    source, rows = (texts.source, texts.texts) if isinstance(texts, LabelledTexts) else ("memory", texts)
    training, held_out = split_texts(rows, chosen.seed)
    training += draw_passages(training, chosen.passages, chosen.seed)
    record = asdict(chosen) | {"embedder": fingerprint.digest, "data": _digest(training)}
    checkpoints = Checkpoints(output.with_name(f"{output.name}.partial"))
    with ExitStack() as stack, torch.random.fork_rng():
        processes.shared(lambda: stack.enter_context(checkpoints.file_lock()))
        for note in processes.shared(lambda: checkpoints.open(record, resume=resume, overwrite=overwrite)):
            progress.note(note)
        torch.manual_seed(chosen.seed)
        language_model, tokenizer, kind = make_base(str(chosen.base), training, embedder, preset=preset)
        model = InverterModel(language_model, kind, fingerprint.dimension, preset.pseudo_tokens)
        _prepare(model, chosen, processes.device)
        assert chosen.max_tokens is not None
        with processes.in_turn():
            corpus, held = (
                make_corpus(part, tokenizer, model.eos_id, chosen.max_tokens, embed or again)
                for part in (training, held_out)
            )
        progress.note(_describe(model, corpus, chosen))
        stages = Stages(model, tokenizer, corpus, held, again, checkpoints, chosen, progress, processes)
        scores, history = stages.run()
        config = InverterConfig(
            embedder=name or embedder.name,
            fingerprint=fingerprint,
            base=str(chosen.base),
            kind=kind,
            pseudo_tokens=preset.pseudo_tokens,
            max_tokens=chosen.max_tokens,
            corrects=chosen.correct,
            training=_training_record(source, corpus, held, chosen, history),
            scores=scores,
            prompt=chosen.prompt,
        )
        _merge(model)
        processes.shared(lambda: _finish(output, model, tokenizer, config, checkpoints, overwrite=overwrite))
    return config


def _finish(
    output: Path,
    model: InverterModel,
    tokenizer: Any,
    config: InverterConfig,
    checkpoints: Checkpoints,
    *,
    overwrite: bool,
) -> None:
    """Writes the inverter and removes what it could have been resumed from."""
    save(output, model, tokenizer, config, overwrite=overwrite)
    checkpoints.close()


def _prepare(model: InverterModel, options: TrainingOptions, device: torch.device) -> None:
    """Sets the dropout, adds adapters if asked for, and moves the model to its device."""
    import torch

    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = options.dropout
    if (
        device.type == "cpu"
    ):  # where plain attention over these short texts is half as fast again as torch's own
        model.language_model.set_attn_implementation("eager")
    if options.lora_rank is not None:
        from peft import LoraConfig, get_peft_model

        adapters = LoraConfig(
            r=options.lora_rank, lora_alpha=2 * options.lora_rank, target_modules="all-linear"
        )
        model.language_model = get_peft_model(model.language_model, adapters)
    model.to(device)


def _merge(model: InverterModel) -> None:
    """Folds adapters into the weights."""
    if hasattr(model.language_model, "merge_and_unload"):
        model.language_model = model.language_model.merge_and_unload()


def _digest(texts: Sequence[str]) -> str:
    return sha256_of([json.dumps(list(texts))])


def _describe(model: InverterModel, corpus: Corpus, options: TrainingOptions) -> str:
    count = sum(parameter.numel() for parameter in model.parameters())
    tokens = float(corpus.lengths.mean())
    return f"{count / 1e6:.1f} million weights from {options.base}; {len(corpus):,} texts of {tokens:.0f} tokens on average"


def _training_record(
    source: str, corpus: Corpus, held: Corpus, options: TrainingOptions, history: list[dict[str, Any]]
) -> dict[str, Any]:
    """What the card says about data and training; the last folder and the name of a file are enough."""
    chosen = {
        key: value
        for key, value in asdict(options).items()
        if value is not None and key not in ("save_every", "patience")
    }
    name = "/".join(Path(source).parts[-2:]) if Path(source).is_absolute() else source
    return {"source": name, "texts": len(corpus), "held_out": len(held)} | chosen | {"history": history}
