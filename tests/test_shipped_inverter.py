"""The inverter that comes with the package: small, described, and worth something."""

from __future__ import annotations

from dallme import Distiller
from dallme.decoders.vec2text.checkpoint import card
from dallme.decoders.vec2text.inverter import SHIPPED, Inverter, find_inverter
from dallme.decoders.vec2text.model import InverterConfig
from dallme.embedders.sentence_transformer import SentenceTransformerEmbedder

TEXTS = [
    "Oil prices rose on Monday after a storm closed wells in the Gulf of Mexico.",
    "The striker scored twice as the home team won the cup final in extra time.",
    "A new version of the operating system fixes a security hole in the browser.",
    "Troops entered the city after days of fighting with insurgents, officials said.",
]


def test_its_folder_is_small_and_its_card_is_that_of_its_record() -> None:
    files = {path.name: path.stat().st_size for path in SHIPPED.iterdir()}
    assert sum(files.values()) < 30_000_000
    assert not [path.name for path in SHIPPED.iterdir() if b"site-packages" in path.read_bytes()]
    config = InverterConfig.read(SHIPPED)
    assert (SHIPPED / "README.md").read_text(encoding="utf-8") == card(config)
    assert config.training["source"] == "training texts of AG-News, IMDB, SST-2"
    assert 0.5 < config.scores["AG-News test, 0 steps, beam 1"]["cosine"] < 0.6


def test_what_it_writes_is_near(minilm: SentenceTransformerEmbedder) -> None:
    inverter = Inverter.load(find_inverter(""), embedder=minilm)
    vectors = minilm.embed(TEXTS)
    decoded = inverter.decode(vectors, steps=1, beam=2)
    made = minilm.embed([each.text for each in decoded])
    cosines = vectors @ made.T
    assert (cosines.argmax(axis=1) == range(4)).all()
    assert cosines.diagonal().mean() > 0.4


def test_it_is_the_decoder_vec2text_without_a_path(minilm: SentenceTransformerEmbedder) -> None:
    texts = [f"{text} {place}" for place in range(5) for text in TEXTS]
    options = {"steps": 0, "start": "hypothesis", "beam": 1}
    distilled = Distiller(per_class=1, embedder=minilm, decoder="vec2text", decoder_options=options).distill(
        texts, [0, 1, 2, 3] * 5
    )
    assert len(distilled) == 4
    assert not set(distilled.texts) & set(texts)
