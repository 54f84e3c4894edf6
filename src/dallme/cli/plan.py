"""``dallme plan``: estimates the cost of embedding a source before anything is paid for."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

from dallme.cli import options
from dallme.cli.groups import BudgetOptions, DataOptions, EmbedderOptions, grouped
from dallme.cli.output import duration, print_json, print_notes, show
from dallme.cli.settings import parse_settings
from dallme.errors import InputError

if TYPE_CHECKING:
    from dallme.data import LabelledTexts
    from dallme.decoders.llm import WritingPlan
    from dallme.embedders.cost import Plan


@dataclass(frozen=True)
class _PlannedParts(EmbedderOptions):
    decoder: Annotated[
        str | None,
        options.option(
            "--decoder", "llm:MODEL: estimate the cost of writing the texts as well.", options.DECODER
        ),
    ] = None
    max_tokens: Annotated[int, options.option("--max-tokens", "Maximum tokens per text.", options.BUDGET)] = (
        128
    )


@grouped
def plan(
    source: options.Source,
    data: DataOptions,
    budget: BudgetOptions,
    parts: _PlannedParts,
    rows: Annotated[
        int | None,
        options.option("--rows", "Scale the estimate to this number of rows.", options.DATA),
    ] = None,
    json: options.Json = False,
) -> None:
    """Estimate the cost of embedding SOURCE: tokens, requests, price, time, disk. No service is called.

    With --decoder llm:MODEL and a budget of texts, the estimate includes writing them.

    Example: dallme plan reviews.csv --embedder openai:text-embedding-3-large
    """
    from dallme.embedders import resolve
    from dallme.embedders.cost import make_plan

    settings = parse_settings(parts.settings or (), ("embedder", "decoder"))
    if settings["decoder"] and parts.decoder is None:
        raise InputError(
            "expected --decoder with options of a decoder, found none; name one, such as llm:MODEL"
        )
    embedder, decoder_options = options.configure(
        parts.embedder, parts.decoder or "nearest", settings, parts.service
    )
    model = resolve(embedder)
    texts = data.read(source, labelled=parts.decoder is not None)
    writing = None
    if parts.decoder is not None:
        writing = _plan_writing(parts.decoder, decoder_options, texts, budget, parts.max_tokens)
    embedding = make_plan(model, texts.texts, prompt=parts.prompt, store=parts.open_store())
    if rows is not None:
        embedding = embedding.for_rows(rows)
    print_notes([*texts.notes, *embedding.notes])
    if json:
        print_json(embedding.as_dict() | ({"writing": writing.as_dict()} if writing else {}))
        return
    _show_embedding(embedding)
    if writing:
        _show_writing(writing)


def _plan_writing(
    decoder: str,
    decoder_options: dict[str, Any],
    texts: LabelledTexts,
    budget: BudgetOptions,
    max_tokens: int,
) -> WritingPlan:
    """Estimates the cost of writing the texts.

    Raises:
        InputError: If the decoder calls no service.
    """
    from dallme import registry
    from dallme.decoders.llm import LLMDecoder, plan_writing
    from dallme.distiller import Distiller

    part = registry.make("decoders", decoder, **decoder_options)
    if not isinstance(part, LLMDecoder):
        raise InputError(
            f"expected a decoder that calls a service, such as llm:MODEL, found {decoder!r}; "
            "leave --decoder out"
        )
    allocation = Distiller(**asdict(budget), embedder="hashing", decoder=part).allocate(texts)
    return plan_writing(part, texts, allocation, max_tokens)


def _show_writing(plan: WritingPlan) -> None:
    show()
    price = plan.price_is if plan.price_usd is None else f"at most; {plan.price_is}"
    _show_lines(
        [
            ("decoder", plan.decoder, ""),
            ("texts", f"{plan.texts:,}", ""),
            (
                "requests",
                f"{plan.requests:,}",
                "one per draft; stored answers are not requested again",
            ),
            ("tokens read", f"{plan.read:,}", "estimated from randomly drawn rows"),
            ("tokens written", f"{plan.written:,}", "at most"),
            ("price", _money(plan.price_usd), price),
            ("time", duration(plan.seconds), plan.seconds_are),
        ]
    )


def _show_embedding(plan: Plan) -> None:
    limit = "all tokens are read" if plan.token_limit is None else f"longer than {plan.token_limit:,} tokens"
    disk = "not known" if plan.disk_bytes is None else f"{plan.disk_bytes / 1e6:,.1f} MB"
    _show_lines(
        [
            ("embedder", plan.embedder, ""),
            ("rows", f"{plan.rows:,}", ""),
            ("distinct texts", f"{plan.distinct:,}", ""),
            ("in the store", f"{plan.stored:,}", ""),
            ("to embed", f"{plan.to_embed:,}", ""),
            ("tokens", f"{plan.tokens:,}", plan.tokens_are),
            ("texts cut", f"{plan.cut:,}", limit),
            *([("requests", f"{plan.requests:,}", "")] if plan.requests is not None else []),
            ("price", _money(plan.price_usd), plan.price_is),
            ("time", duration(plan.seconds), plan.seconds_are),
            ("disk", disk, ""),
        ]
    )


def _show_lines(lines: list[tuple[str, str, str]]) -> None:
    for name, value, remark in lines:
        show(f"{name:<15} {value}{f' ({remark})' if remark else ''}")


def _money(usd: float | None) -> str:
    if usd is None:
        return "not known"
    return f"${usd:,.2f}" if usd >= 0.1 or usd == 0 else f"${usd:.4f}"
