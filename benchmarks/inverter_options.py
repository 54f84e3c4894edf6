"""Effect of noise on the vectors that an inverter learns from: two trainings side by side.

Four trainings run the small preset's hypothesizer on AG-News for the same steps and batches. They start from
the language model of the shipped inverter. The results are

- for unseen test texts, cut to the inverter's tokens: BLEU, token F1 and cosine;
- for a text of each of the 120 centroids of AG-News (30 per class), the nearest of four: cosine to the
  centroid, and the mean test accuracy of logistic regression, linear SVM and naive Bayes.

An interrupted run continues with the missing trainings.

Run: python benchmarks/inverter_options.py [--steps 100] [--seeds 2] [--noise 0.2]
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from _common import data_folder, load, make_parser, pick, write
from dallme.cli.options import store_folder
from dallme.cli.output import make_progress
from dallme.data import LabelledTexts
from dallme.decoders.vec2text.evaluation import cut_corpus, measure
from dallme.decoders.vec2text.inverter import Inverter
from dallme.decoders.vec2text.training import train_inverter
from dallme.distiller import Distiller
from dallme.embedders import resolve
from dallme.embedders.base import Embedder
from dallme.embedders.cache import EmbeddingStore, embed_with_store
from dallme.evaluation.evaluate import LINEAR, evaluate, make_classifiers
from dallme.evaluation.results import sample
from dallme.readers import read

EMBEDDER, BASE, LEARNING_RATE, BATCH = "all-MiniLM-L6-v2", "vec2text", 5e-4, pick(32, 2)
PER_CLASS, BEAM, DRAWS, TEST_ROWS = pick((30, 4, 2, 300), (1, 1, 1, 4))
PROGRESS = make_progress()


@dataclass(frozen=True)
class Setting:
    """Inputs that all trainings share.

    Attributes:
        source: The training texts.
        test: The test texts.
        prototypes: The centroids, and their labels.
        embedder: The embedder.
        steps: Optimizer steps of a training.
    """

    source: LabelledTexts
    test: LabelledTexts
    prototypes: tuple[np.ndarray, np.ndarray]
    embedder: Embedder
    steps: int

    @classmethod
    def make(cls, steps: int) -> Setting:
        """Reads and condenses AG-News."""
        source = read(data_folder() / "ag_news" / "train.parquet")
        test = read(data_folder() / "ag_news" / "test.parquet", like=source)
        distiller = Distiller(per_class=PER_CLASS, embedder=EMBEDDER, store=store_folder(None))
        prototypes = distiller.condense(distiller.context(source, distiller.embed(source)))
        return cls(source, test, (prototypes.vectors, prototypes.labels), resolve(EMBEDDER), steps)

    def embed(self, texts: Any) -> np.ndarray:
        """Embeds texts that the store does not have."""
        return embed_with_store(
            self.embedder, texts, store=EmbeddingStore(store_folder(None)), progress=PROGRESS
        )

    def measured(self, noise: float, seed: int) -> dict[str, Any]:
        """Trains one inverter and measures it."""
        started = time.process_time()
        with tempfile.TemporaryDirectory() as folder:
            train_inverter(
                self.source,
                self.embedder,
                Path(folder) / "inverter",
                name=EMBEDDER,
                embed=self.embed,
                preset="small",
                base=BASE,
                learning_rate=LEARNING_RATE,
                batch_size=BATCH,
                steps=self.steps,
                correct=False,
                noise=noise,
                seed=seed,
                progress=PROGRESS,
            )
            seconds = time.process_time() - started
            inverter = Inverter.load(Path(folder) / "inverter", embedder=self.embedder)
        found = {"noise": noise, "mix": 0.0, "seed": seed, "cpu_seconds": round(seconds, 1)}
        return found | {"test": self._on_test(inverter), "centroids": self._on_centroids(inverter)}

    def _on_test(self, inverter: Inverter) -> dict[str, float]:
        rows = sample(self.test, TEST_ROWS, np.random.default_rng(0))
        corpus = cut_corpus(inverter, rows.texts, self.embed)
        decoded = inverter.decode(corpus.vectors, steps=0, beam=1, progress=PROGRESS)
        scores = measure(
            [row.text for row in decoded], corpus.texts, [row.cosine for row in decoded]
        ).as_dict()
        return {name: scores[name] for name in ("texts", "bleu", "token_f1", "cosine")}

    def _on_centroids(self, inverter: Inverter) -> dict[str, float]:
        """Returns means over the seeds of the draws."""
        vectors, labels = self.prototypes
        cosines, accuracies = [], []
        for seed in range(DRAWS):
            decoded = inverter.decode(vectors, steps=0, beam=BEAM, seed=seed, progress=PROGRESS)
            texts = LabelledTexts(
                [row.text or "." for row in decoded], labels, self.source.label_names, np.arange(len(labels))
            )
            scores = evaluate(texts, self.test, make_classifiers(LINEAR), seed=seed)
            accuracies.append(float(np.mean([score.as_dict()["accuracy_mean"] for score in scores])))
            cosines.append(float(np.mean([row.cosine for row in decoded])))
        return {
            "cosine": float(np.mean(cosines)),
            "accuracy": float(np.mean(accuracies)),
            "accuracy_deviation": float(np.std(accuracies)),
        }


def main() -> None:
    """Runs the missing trainings."""
    parser = make_parser(__doc__)
    parser.add_argument("--steps", type=int, default=pick(100, 1))
    parser.add_argument("--seeds", type=int, default=pick(2, 1))
    parser.add_argument("--noise", type=float, default=0.2, help="length of the noise")
    parser.add_argument("--again", action="store_true", help="repeat all trainings")
    options = parser.parse_args()
    settings = {
        "base": BASE,
        "steps": options.steps,
        "batch_size": BATCH,
        "learning_rate": LEARNING_RATE,
        "draws": DRAWS,
    }
    known = {} if options.again else load("inverter_options")
    rows = known.get("rows", []) if all(known.get(name) == value for name, value in settings.items()) else []
    # Rows with mixed targets are of an earlier version, which could train on them.
    done = {(row["noise"], row["seed"]) for row in rows if not row["mix"]}
    setting = Setting.make(options.steps)
    for seed in range(options.seeds):
        levels = (0.0, options.noise)
        for noise in pick(levels, levels[-1:]):
            if (noise, seed) in done:
                continue
            rows.append(setting.measured(noise, seed))
            print(rows[-1], flush=True)
            write("inverter_options", settings | {"texts": len(setting.source), "rows": rows})


if __name__ == "__main__":
    main()
