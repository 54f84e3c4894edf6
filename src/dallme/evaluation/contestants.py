"""What stands in the table: the sets that methods make of a source, and ready sets beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from dallme import registry
from dallme.baselines.base import Baseline
from dallme.baselines.model_base import ModelBaseline
from dallme.data import LabelledTexts
from dallme.decoders.base import Context, Decoder
from dallme.decoders.nearest import first_sentences
from dallme.distiller import Distillation, Distiller
from dallme.errors import InputError, UnknownNameError
from dallme.evaluation.plans import Protocol


def known_methods() -> list[str]:
    """The names of the baselines and decoders."""
    return [*registry.names("baselines"), *registry.names("decoders")]


def check_methods(methods: Sequence[str], classifiers: Iterable[str] = ()) -> list[str]:
    """Checks names of baselines and decoders; each is kept once, in the order asked for.

    Args:
        methods: The names, with an argument for those that take one.
        classifiers: Names of the classifiers, where baselines that hand over a trained model may be among the methods.

    Raises:
        UnknownNameError: If one is neither; it lists the known ones.
        InputError: If a method takes no argument and one is given, or if it hands over a model that is for none of the
            classifiers.
        MissingDependencyError: If one needs a package that is not installed.
        DallmeError: If a baseline misses something else that it needs.
    """
    known, columns = known_methods(), list(classifiers)
    for method in methods:
        name = method.partition(":")[0]
        if name not in known:
            raise UnknownNameError("method", method, known)
        if name not in registry.names("baselines"):
            registry.make("decoders", method)
            continue
        baseline: Baseline = registry.make("baselines", method)
        baseline.find()
        if isinstance(baseline, ModelBaseline) and not columns:
            raise InputError(f"expected methods that make texts, found {method!r}, which hands over a model; leave it out")
    if columns:
        model_baselines(methods, columns)
    return list(dict.fromkeys(methods))


def model_baselines(methods: Sequence[str], classifiers: Iterable[str]) -> dict[str, ModelBaseline]:
    """Those of checked methods that hand over a trained model.

    Args:
        methods: Names of baselines and decoders.
        classifiers: Names of the classifiers, which are the columns of the table.

    Raises:
        InputError: If one fills none of the columns.
    """
    found, columns = {}, list(classifiers)
    for method in methods:
        if method.partition(":")[0] not in registry.names("baselines"):
            continue
        baseline: Baseline = registry.make("baselines", method)
        if isinstance(baseline, ModelBaseline):
            found[method] = baseline
            if not any(baseline.fits(name) for name in columns):
                kinds = ", ".join(name for name in registry.names("classifiers") if baseline.fits(name))
                raise InputError(
                    f"expected a classifier that the method {method!r} can be compared on ({kinds}), "
                    f"found only {', '.join(columns)}; name one, or leave the method out"
                )
    return found


def check_candidates(candidates: Mapping[str, Sequence[LabelledTexts]], source: LabelledTexts, test: LabelledTexts) -> list[str]:
    """Checks ready sets before anything is trained.

    Returns:
        A note for each candidate whose sets differ in size, and for each with texts that stand in the test set.

    Raises:
        InputError: If a candidate has the name of a method, no set, or a set with a class that the source has not or with
            fewer than two classes.
    """
    notes, tested = [], set(test.texts)
    for name, sets in candidates.items():
        if name in known_methods():
            raise InputError(f"expected a candidate's name that no method has, found {name!r}; write a path as './{name}'")
        if not sets:
            raise InputError(f"candidate {name!r}: expected at least one set of texts, found none")
        for place, texts in enumerate(sets):
            if other := sorted(set(texts.class_counts) - set(source.label_names)):
                raise InputError(
                    f"candidate {name!r}: expected the classes {list(source.label_names)} of the source, "
                    f"found {other} as well in set {place}; read it with like=source"
                )
            if len(texts.class_counts) < 2:
                found = list(texts.class_counts)
                raise InputError(f"candidate {name!r}: expected texts of at least two classes, found {found} in set {place}")
        sizes = [len(texts) for texts in sets]
        if min(sizes) < max(sizes):
            notes.append(
                f"the sets of candidate {name!r} have from {min(sizes):,} to {max(sizes):,} texts; the table shows the first's"
            )
        if shared := sum(text in tested for texts in sets for text in texts.texts):
            notes.append(f"{shared:,} of {sum(sizes):,} texts of candidate {name!r} stand in the test set: its row is too good")
    return notes


def count_sets(method: str, protocol: Protocol) -> int:
    """How many sets :func:`make_sets` makes.

    Decoders make as many as the protocol says; so do baselines that choose at random, or the protocol's `draws` if that
    is more; other baselines make one.
    """
    if method.partition(":")[0] not in registry.names("baselines"):
        return protocol.sets
    baseline: Baseline = registry.make("baselines", method)
    return max(protocol.sets, protocol.draws) if baseline.varies else 1


def make_sets(distiller: Distiller, distillation: Distillation, method: str, protocol: Protocol) -> list[LabelledTexts]:
    """The sets of texts of one method, :func:`count_sets` of them, with the seeds from the distiller's on.

    A set depends on its seed alone, not on how many there are.
    """
    context, first = distillation.context, distiller.seed
    if method in registry.names("baselines"):
        baseline: Baseline = registry.make("baselines", method)
        budget = distiller.allocate(context.source)
        seeds = range(first, first + count_sets(method, protocol))
        selected = [baseline.select(context.source, context.vectors, budget, seed=seed) for seed in seeds]
        return [_cut(texts, context) for texts in selected] if baseline.bounded else selected
    sets = []
    for seed in range(first, first + count_sets(method, protocol)):
        if seed == first and method == distiller.decoder:
            sets.append(distillation.distilled.to_labelled_texts())
            continue
        prototypes = distillation.prototypes if seed == first else replace(distiller, seed=seed).condense(context)
        decoder: Decoder = distiller.resolved_decoder if method == distiller.decoder else registry.make("decoders", method)
        decoded = decoder.decode(prototypes, context, seed=seed)
        sets.append(
            replace(distillation.distilled.to_labelled_texts(), texts=[text.text for text in decoded], labels=prototypes.labels)
        )
    return sets


def _cut(texts: LabelledTexts, context: Context) -> LabelledTexts:
    """The texts cut to the token limit after a whole sentence, as those of the decoders are."""
    kept = (first_sentences(text, row, context.max_tokens, context.count_tokens, "en") for row, text in enumerate(texts.texts))
    return replace(texts, texts=[text if cut is None else cut.text for text, cut in zip(texts.texts, kept, strict=True)])
