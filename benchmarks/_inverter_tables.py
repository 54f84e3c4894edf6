"""Tables of the inverters' scores, for `render.py`."""

from __future__ import annotations

from typing import Any

from _common import table


def inversion_table(results: dict[str, Any]) -> str:
    """Renders the scores of an inverter on unseen texts, from the nearest text, and on aligned vectors."""

    def row(title: str, found: dict[str, Any]) -> list[str]:
        label = f"{found['label']:.3f}" if "label" in found else ""
        scores = (found["token_f1"], found["exact"], found["cosine"])
        return [
            title,
            f"{found['texts']:,}",
            f"{found['bleu']:.1f}",
            *(f"{score:.3f}" for score in scores),
            label,
        ]

    near, aligned = results["from_nearest"], results["aligned"]
    body = [row(f"{each['steps']} steps, beam {each['beam']}", each) for each in results["texts"]]
    body += [row("nearest training text", results["nearest"]), row("nearest training text", near["nearest"])]
    if "joined" in near:
        body.append(row("joined from sentences of the nearest", near["joined"]))
    kept = near["kept_as_it_was"] if "kept_as_it_was" in near else near["nearest_kept"]
    body.append(row(f"from it, {near['steps']} steps, beam {near['beam']}", near["corrected"]))
    head = ["", "texts", "BLEU", "token F1", "exact", "cosine", "label right"]
    mapped, written = (aligned["map_cosine"], aligned["map_chance"]), aligned["aligned"]
    return table(head, body) + (
        f"\nOf the texts themselves {results['label_of_the_texts_themselves']:.3f} have the right label by "
        "the same probe. "
        f"From the nearest,\n{kept:.0%} stay as they were. Aligned: {aligned['rows']} GloVe vectors, mapped "
        f"into MiniLM's space with a mean cosine of\n{mapped[0]:.3f} to its own (chance {mapped[1]:.3f}); "
        "GloVe's vectors of "
        f"what was written have {written['cosine']:.3f} to those\nthat were decoded (chance "
        f"{written['chance']:.3f}, BLEU "
        f"{written['bleu']:.1f}).{own_inverter(results)}\n"
    )


def own_inverter(results: dict[str, Any]) -> str:
    """Returns the scores of an inverter trained for GloVe on the same vectors, if it was measured."""
    if "glove_inverter" not in results:
        return ""
    found = results["glove_inverter"]
    training = found["training"]
    return (
        f" An inverter of their own,\ntrained for GloVe on {training['texts']:,} texts in "
        f"{training['minutes']:.0f} minutes, "
        f"reaches {found['cosine']:.3f} on the same vectors\n(chance {found['chance']:.3f}, BLEU "
        f"{found['bleu']:.1f})."
    )


def vec2text_speed_table(results: dict[str, Any]) -> str:
    """Renders the seconds of both ways and their ratios."""
    body = []
    for title, kind in (("by the clock", "wall"), ("of the processor", "cpu")):
        seconds = [f"{results[f'{way}_{kind}_seconds']:.0f}" for way in ("together", "one_by_one")]
        rounds = ", ".join(f"{ratio:.2f}" for ratio in results[f"{kind}_ratio_by_round"])
        body.append([title, *seconds, f"{results[f'{kind}_ratio']:.2f}", rounds])
    cosine, steps = results["mean_cosine"], results["mean_steps"]
    return table(["seconds", "together", "one at a time", "ratio", "by round"], body) + (
        f"\n{results['prototypes']} prototypes, {results['decoded_one_at_a_time']} of them one at a time "
        "as well, scaled to all. "
        f"Mean cosine {cosine['together']:.3f} together,\n{cosine['one_by_one']:.3f} one at a time; mean "
        "correction steps "
        f"{steps['together']:.2f} and {steps['one_by_one']:.2f}. Load of the {results['machine']['cores']} "
        "cores before the\n"
        f"run, from other work: {results['load_average_before']}.\n"
    )


def inverter_options_table(results: dict[str, Any]) -> str:
    """Renders the scores of each training on test texts and on centroids."""
    body = []
    for row in sorted(results["rows"], key=lambda row: (row["seed"], row["mix"], row["noise"])):
        test, centroids = row["test"], row["centroids"]
        scores = (test["token_f1"], test["cosine"], centroids["cosine"], centroids["accuracy"])
        cells = [f"{test['bleu']:.2f}", *(f"{score:.3f}" for score in scores)]
        body.append([f"noise {row['noise']:g}, mix {row['mix']:g}", str(row["seed"]), *cells])
    head = ["", "seed", "BLEU", "token F1", "cosine", "cosine to centroids", "accuracy from centroids"]
    return table(head, body)
