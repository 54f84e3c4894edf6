"""Measures an inverter on unseen AG-News test texts, cut to 64 tokens.

- texts: BLEU, token F1, exact matches and cosine after 0, 1, 5 and 10 steps with beams of 1 and 4, compared
  with the nearest of the 18,060 training texts; and the share of texts whose class a linear probe of the full
  data confirms.
- from_nearest: correction that starts at the nearest training text, and at texts joined from pieces of the
  nearest ones; the perplexity of all of them and of the test texts under SmolLM2-135M.
- aligned: GloVe vectors mapped into the inverter's space and decoded there; the cosine of GloVe's vectors of
  the decoded texts to the original vectors, compared with chance and, with --glove-inverter, with an inverter
  trained for GloVe.

The JSON file keeps the groups that are not run.

Run: python benchmarks/inversion.py [INVERTER] [--rows 1000] [--beam-rows 1000] [--glove-inverter FOLDER]
    [--groups aligned]
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from _common import data_folder, load, make_parser, pick, write
from dallme.auditing.readability import perplexity_of
from dallme.cli.options import store_folder
from dallme.cli.output import make_progress
from dallme.decoders.vec2text.alignment import fit_alignment
from dallme.decoders.vec2text.corpus import Corpus, encode
from dallme.decoders.vec2text.correction import assemble, make_pool
from dallme.decoders.vec2text.evaluation import check_nearest, cut_corpus, measure
from dallme.decoders.vec2text.inverter import Inverter, find_inverter
from dallme.embedders import resolve
from dallme.embedders.cache import EmbeddingStore, embed_with_store
from dallme.evaluation.results import sample
from dallme.readers import read
from dallme.text import sentences

STEPS, BEAMS = pick((0, 1, 5, 10), (0, 1)), pick((1, 4), (1,))
TOKENS, GLOVE, ALIGNED_ROWS = pick(64, 16), "glove:6B.50d", pick(100, 2)
PERPLEXITY_ROWS, GROUPS = 50, ("texts", "from_nearest", "aligned", "own")
PROGRESS = make_progress()


def through_store(embedder: Any) -> Any:
    """Returns a function that embeds texts that the store does not have."""
    return partial(embed_with_store, embedder, store=EmbeddingStore(store_folder(None)), progress=PROGRESS)


def decoded_texts(
    inverter: Inverter, test: Corpus, labels: np.ndarray, probe: Any, rows: dict[int, int]
) -> list[dict[str, Any]]:
    """Measures the decoded texts, by steps and beam."""
    found = []
    for beam in BEAMS:
        count, started = rows[beam], time.perf_counter()
        states = inverter.trajectory(test.vectors[:count], steps=max(STEPS), beam=beam, progress=PROGRESS)
        seconds = time.perf_counter() - started
        for steps in STEPS:
            state = states[steps]
            texts, cosines = [each.text for each in state], [each.cosine for each in state]
            agree = float(
                np.mean(probe.predict(inverter.embed([text or "." for text in texts])) == labels[:count])
            )
            row = {
                "steps": steps,
                "beam": beam,
                **measure(texts, test.texts[:count], cosines).as_dict(),
                "label": agree,
            }
            found.append(row | {"seconds_of_all_steps": round(seconds, 1)})
            print(found[-1], flush=True)
    return found


def from_nearest(
    inverter: Inverter, source: Sequence[str], known: Corpus, test: Corpus, count: int
) -> dict[str, Any]:
    """Measures correction from the nearest training text, or from texts joined from the nearest ones."""
    targets, started = test.vectors[:count], time.process_time()
    order = np.argsort(-(targets @ known.vectors.T), axis=1, kind="stable")
    starts = [known.texts[row] for row in order[:, 0]]
    joined = assemble(
        inverter,
        targets,
        [sentences(start) for start in starts],
        [list(make_pool(source, rows)) for rows in order.tolist()],
        count_tokens=lambda texts: np.array([len(row) for row in encode_all(inverter, texts)]),
        max_tokens=TOKENS,
        beam=4,
    )
    options = [
        list(dict.fromkeys([" ".join(parts) for parts in found] + [start]))
        for found, start in zip(joined, starts, strict=True)
    ]
    first = inverter.decode(targets, steps=5, beam=4, start=options, progress=PROGRESS)
    best = [" ".join(found[0]) for found in joined]
    texts = [each.text for each in first]
    before = np.einsum("ij,ij->i", targets, known.vectors[order[:, 0]])
    between = np.einsum("ij,ij->i", targets, inverter.embed(best))
    result = {
        "steps": 5,
        "beam": 4,
        "nearest": measure(starts, test.texts[:count], before).as_dict(),
        "joined": measure(best, test.texts[:count], between).as_dict(),
        "corrected": measure(texts, test.texts[:count], [each.cosine for each in first]).as_dict(),
        "pieces": float(np.mean([len(found[0]) for found in joined])),
        "nearest_kept": float(np.mean([text == start for text, start in zip(texts, starts, strict=True)])),
        "joined_kept": float(
            np.mean(
                [
                    text in given and text != start
                    for text, given, start in zip(texts, options, starts, strict=True)
                ]
            )
        ),
        "cpu_seconds": round(time.process_time() - started, 1),
        "samples": [list(each) for each in zip(test.texts[:8], starts[:8], texts[:8], strict=True)],
    }
    print(result, flush=True)
    of = {"real": test.texts[:count], "nearest": starts, "joined": best, "corrected": texts}
    found = {
        name: perplexity_of(rows[:PERPLEXITY_ROWS], "smollm2", progress=PROGRESS) for name, rows in of.items()
    }
    print(found, flush=True)
    return result | {"perplexity": found, "perplexity_rows": PERPLEXITY_ROWS}


def encode_all(inverter: Inverter, texts: Sequence[str]) -> list[np.ndarray]:
    """Returns the tokens of texts by the inverter's tokenizer, with end tokens."""
    return encode(texts, inverter.tokenizer, inverter.model.eos_id, 10**6)


def aligned(inverter: Inverter, known: Corpus, test: Corpus) -> dict[str, Any]:
    """Decodes GloVe vectors with the inverter of another embedder."""
    glove = resolve(GLOVE, unknown="zero")
    vectors, targets = through_store(glove)(known.texts), through_store(glove)(test.texts[:ALIGNED_ROWS])
    alignment = fit_alignment(vectors, known.vectors, seed=0)
    result: dict[str, Any] = {
        "rows": ALIGNED_ROWS,
        "map_cosine": alignment.cosine,
        "map_chance": alignment.chance,
    }
    result["aligned"] = glove_round_trip(inverter, alignment.map(targets), targets, test)
    print(result, flush=True)
    return result


def glove_round_trip(
    used: Inverter, decoded: np.ndarray, targets: np.ndarray, test: Corpus
) -> dict[str, Any]:
    """Decodes vectors and compares GloVe's vectors of the result with GloVe's vectors of the texts."""
    texts = [each.text or "." for each in used.decode(decoded, steps=5, beam=4, progress=PROGRESS)]
    made = resolve(GLOVE, unknown="zero").embed(texts)
    found = {
        "cosine": float(np.mean(np.einsum("ij,ij->i", made, targets))),
        "chance": float(np.mean(np.einsum("ij,ij->i", np.roll(made, 1, axis=0), targets))),
        "bleu": measure(texts, test.texts[:ALIGNED_ROWS]).bleu,
    }
    print(found, flush=True)
    return found


def own_glove(folder: Path, test: Corpus) -> dict[str, Any]:
    """Decodes the same GloVe vectors with an inverter that was trained for GloVe."""
    own = Inverter.load(folder, embedder=resolve(GLOVE, unknown="zero"))
    targets = through_store(own.embedder)(test.texts[:ALIGNED_ROWS])
    training = {
        name: own.config.training[name]
        for name in ("minutes", "noise", "dropout", "learning_rate", "seed", "texts")
    }
    return glove_round_trip(own, targets, targets, test) | {"base": own.config.base, "training": training}


def main() -> None:
    """Measures an inverter."""
    parser = make_parser(__doc__)
    parser.add_argument(
        "inverter", nargs="?", default="", help="folder; by default the one that comes with dallme"
    )
    parser.add_argument("--rows", type=int, default=pick(1000, 4), help="test texts, beam 1")
    parser.add_argument(
        "--beam-rows", type=int, default=pick(1000, 2), help="test texts, beam 4 and from the nearest"
    )
    parser.add_argument("--glove-inverter", type=Path)
    parser.add_argument("--groups", nargs="+", choices=GROUPS, default=pick(GROUPS, ("texts",)))
    options = parser.parse_args()
    inverter = Inverter.load(find_inverter(options.inverter))
    source = read(data_folder() / "ag_news" / "train.parquet")
    held_out = sample(
        read(data_folder() / "ag_news" / "test.parquet", like=source), options.rows, np.random.default_rng(0)
    )
    held_out = held_out.take(
        np.random.default_rng(1).permutation(len(held_out))
    )  # so that the first ones are of all classes
    embed = through_store(inverter.embedder)
    known = cut_corpus(inverter, source.texts, embed, TOKENS)
    test = cut_corpus(inverter, held_out.texts, embed, TOKENS)

    def texts() -> dict[str, Any]:
        from sklearn.linear_model import LogisticRegression

        probe = LogisticRegression(max_iter=1000, random_state=0).fit(embed(source.texts), source.labels)
        rows = {beam: options.rows if beam == 1 else options.beam_rows for beam in BEAMS}
        return {
            "inverter": inverter.config.training | {"base": inverter.config.base},
            "texts": decoded_texts(inverter, test, held_out.labels, probe, rows),
            "nearest": check_nearest(known, test).measures.as_dict(),
            "label_of_the_texts_themselves": float(np.mean(probe.predict(test.vectors) == held_out.labels)),
        }

    groups: dict[str, Callable[[], dict[str, Any]]] = {
        "texts": texts,
        "from_nearest": lambda: {
            "from_nearest": from_nearest(inverter, source.texts, known, test, options.beam_rows)
        },
        "aligned": lambda: {"aligned": aligned(inverter, known, test)},
        "own": lambda: {"glove_inverter": own_glove(options.glove_inverter, test)},
    }
    for group in options.groups:
        if group == "own" and options.glove_inverter is None:
            continue
        results = load("inversion") | groups[group]()
        results.pop("machine", None)
        write("inversion", results)


if __name__ == "__main__":
    main()
