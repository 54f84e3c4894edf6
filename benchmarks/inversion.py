"""What an inverter reaches on AG-News test texts that it has not seen, cut to 64 tokens.

- texts: BLEU, token F1, exact matches and cosine after 0, 1, 5 and 10 steps with beams of 1 and 4, beside the nearest of the
  18,060 training texts; and for how many a linear probe of the full data gives what was written the text's class.
- from nearest: correction that starts at the nearest training text, which is kept where nothing written is nearer.
- aligned: GloVe vectors mapped into the inverter's space and decoded there; the cosine of GloVe's vectors of what was written to
  the vectors decoded, beside chance and, with --glove-inverter, an inverter that was trained for GloVe.

Run: python benchmarks/inversion.py [INVERTER] [--rows 1000] [--beam-rows 1000] [--glove-inverter FOLDER]
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from _common import data_folder, write
from dallme.cli.options import store_folder
from dallme.cli.progress import make_progress
from dallme.decoders.vec2text.alignment import fit_alignment
from dallme.decoders.vec2text.checking import check_nearest, cut_corpus
from dallme.decoders.vec2text.dataset import Corpus
from dallme.decoders.vec2text.fit import find_inverter
from dallme.decoders.vec2text.inverter import Inverter
from dallme.decoders.vec2text.measures import measure
from dallme.embedders.resolve import resolve
from dallme.evaluation.tuning import sample
from dallme.readers import read
from dallme.store import EmbeddingStore, embed_with_store

STEPS, BEAMS, TOKENS, GLOVE, ALIGNED_ROWS = (0, 1, 5, 10), (1, 4), 64, "glove:6B.50d", 100
PROGRESS = make_progress()


def through_store(embedder: Any) -> Any:
    """Embeds what the store does not hold."""
    return partial(embed_with_store, embedder, store=EmbeddingStore(store_folder(None)), progress=PROGRESS)


def decoded_texts(inverter: Inverter, test: Corpus, labels: np.ndarray, probe: Any, rows: dict[int, int]) -> list[dict[str, Any]]:
    """The rows of the first table."""
    found = []
    for beam in BEAMS:
        count, started = rows[beam], time.perf_counter()
        states = inverter.trajectory(test.vectors[:count], steps=max(STEPS), beam=beam, progress=PROGRESS)
        seconds = time.perf_counter() - started
        for steps in STEPS:
            state = states[steps]
            texts, cosines = [each.text for each in state], [each.cosine for each in state]
            agree = float(np.mean(probe.predict(inverter.embed([text or "." for text in texts])) == labels[:count]))
            row = {"steps": steps, "beam": beam, **measure(texts, test.texts[:count], cosines).as_dict(), "label": agree}
            found.append(row | {"seconds_of_all_steps": round(seconds, 1)})
            print(found[-1], flush=True)
    return found


def from_nearest(inverter: Inverter, known: Corpus, test: Corpus, count: int) -> dict[str, Any]:
    """Correction that starts at the nearest training text."""
    near = (test.vectors[:count] @ known.vectors.T).argmax(axis=1)
    starts = [known.texts[row] for row in near]
    decoded = inverter.decode(test.vectors[:count], steps=5, beam=4, start=starts, progress=PROGRESS)
    texts, cosines = [each.text for each in decoded], [each.cosine for each in decoded]
    before = np.einsum("ij,ij->i", test.vectors[:count], known.vectors[near])
    result = {
        "steps": 5,
        "beam": 4,
        "nearest": measure(starts, test.texts[:count], before).as_dict(),
        "corrected": measure(texts, test.texts[:count], cosines).as_dict(),
        "kept_as_it_was": float(np.mean([text == start for text, start in zip(texts, starts, strict=True)])),
        "samples": [list(each) for each in zip(test.texts[:5], starts[:5], texts[:5], strict=True)],
    }
    print(result, flush=True)
    return result


def aligned(inverter: Inverter, known: Corpus, test: Corpus, own: Inverter | None) -> dict[str, Any]:
    """GloVe vectors through the inverter of another embedder, and through one of their own."""
    glove = resolve(GLOVE, unknown="zero")
    vectors, targets = through_store(glove)(known.texts), through_store(glove)(test.texts[:ALIGNED_ROWS])
    alignment = fit_alignment(vectors, known.vectors, seed=0)
    result: dict[str, Any] = {"rows": ALIGNED_ROWS, "map_cosine": alignment.cosine, "map_chance": alignment.chance}
    for name, used, decoded in (("aligned", inverter, alignment.map(targets)), ("own", own, targets)):
        if used is not None:
            texts = [each.text or "." for each in used.decode(decoded, steps=5, beam=4, progress=PROGRESS)]
            made = glove.embed(texts)
            result[name] = {
                "cosine": float(np.mean(np.einsum("ij,ij->i", made, targets))),
                "chance": float(np.mean(np.einsum("ij,ij->i", np.roll(made, 1, axis=0), targets))),
                "bleu": measure(texts, test.texts[:ALIGNED_ROWS]).bleu,
            }
    print(result, flush=True)
    return result


def main() -> None:
    """Measures an inverter."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("inverter", nargs="?", default="", help="folder; by default the one that comes with dallme")
    parser.add_argument("--rows", type=int, default=1000, help="test texts, beam 1")
    parser.add_argument("--beam-rows", type=int, default=1000, help="test texts, beam 4 and from the nearest")
    parser.add_argument("--glove-inverter", type=Path)
    options = parser.parse_args()
    inverter = Inverter.load(find_inverter(options.inverter))
    source = read(data_folder() / "ag_news" / "train.parquet")
    held_out = sample(read(data_folder() / "ag_news" / "test.parquet", like=source), options.rows, np.random.default_rng(0))
    held_out = held_out.take(np.random.default_rng(1).permutation(len(held_out)))  # the first ones are of all classes
    embed = through_store(inverter.embedder)
    known = cut_corpus(inverter, source.texts, embed, TOKENS)
    test = cut_corpus(inverter, held_out.texts, embed, TOKENS)
    from sklearn.linear_model import LogisticRegression

    probe = LogisticRegression(max_iter=1000, random_state=0).fit(embed(source.texts), source.labels)
    nearest = check_nearest(known, test).measures.as_dict()
    rows = {beam: options.rows if beam == 1 else options.beam_rows for beam in BEAMS}
    results = {
        "inverter": inverter.config.training | {"base": inverter.config.base},
        "texts": decoded_texts(inverter, test, held_out.labels, probe, rows),
        "nearest": nearest,
        "label_of_the_texts_themselves": float(np.mean(probe.predict(test.vectors) == held_out.labels)),
        "from_nearest": from_nearest(inverter, known, test, options.beam_rows),
        "aligned": aligned(inverter, known, test, Inverter.load(options.glove_inverter) if options.glove_inverter else None),
    }
    write("inversion", results)


if __name__ == "__main__":
    main()
