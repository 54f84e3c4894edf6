"""The one table of parts: role and name to the class that does it. Nothing here imports a part until it is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from dallme.errors import InputError, MissingDependencyError, UnknownNameError

#: The roles, in the order of the pipeline.
ROLES = ("embedders", "condensers", "decoders", "classifiers", "baselines")


@dataclass(frozen=True)
class Part:
    """One row of the table.

    Attributes:
        role: One of :data:`ROLES`.
        name: What the user calls it.
        module: Module that holds it, below ``dallme``.
        attribute: Class in that module.
        summary: One line for ``dallme list``.
        aliases: Other names for it.
        packages: Import names of packages that it needs and that may be missing.
        extra: The extra of dallme that installs them.
    """

    role: str
    name: str
    module: str
    attribute: str
    summary: str
    aliases: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    extra: str = ""

    @property
    def missing(self) -> tuple[str, ...]:
        """The packages that are not installed."""
        return tuple(package for package in self.packages if find_spec(package) is None)

    def load(self) -> type:
        """Imports the class.

        Raises:
            MissingDependencyError: If a package that it needs is not installed.
        """
        for package in self.missing:
            raise MissingDependencyError(f"{self.role[:-1]} {self.name!r}", package, self.extra)
        loaded: type = getattr(import_module(f"dallme.{self.role}.{self.module}"), self.attribute)
        return loaded


PARTS = (
    Part("embedders", "sentence-transformer", "sentence_transformer", "SentenceTransformerEmbedder",
         "any sentence-transformers model, by Hub id or folder; all-MiniLM-L6-v2 is the default", ("st",)),
    Part("embedders", "glove", "glove", "GloVeEmbedder", "mean of word vectors; glove:SOURCE, a file, folder or Hub id, 6B.50d is the default"),
    Part("embedders", "model2vec", "static", "StaticEmbedder", "static models of model2vec; model2vec:MODEL, a folder or Hub id",
         packages=("model2vec",), extra="model2vec"),
    Part("embedders", "openai", "openai", "OpenAIEmbedder",
         "OpenAI's models, openai:MODEL, and with --base-url any server of that protocol", packages=("openai", "toktok"), extra="openai"),
    Part("embedders", "hashing", "hashing", "HashingEmbedder", "hashed words, numpy only: for tests and as a floor"),
    Part("condensers", "k-centroid", "k_centroid", "KCentroid", "k-means centroids per class (the paper's generator)", ("k-means",)),
    Part("condensers", "gaussian-mixture", "gaussian_mixture", "GaussianMixture", "component means of a mixture per class", ("gmm",)),
    Part("condensers", "medoid", "medoid", "Medoid", "the real row nearest to each k-means centroid"),
    Part("condensers", "random", "random", "RandomRows", "rows drawn at random per class"),
    Part("decoders", "extractive", "extractive.decoder", "ExtractiveDecoder", "sentences of the cluster that cover the words of its class"),
    Part("decoders", "teaching", "extractive.decoder", "TeachingDecoder", "sentences of the cluster, each for what classifiers trained on the others get wrong"),
    Part("decoders", "nearest", "nearest", "NearestDecoder", "the real text nearest to the prototype"),
    Part("decoders", "vec2text", "vec2text.decoder", "Vec2TextDecoder",
         "a model that writes texts from vectors and corrects them; vec2text:FOLDER of an inverter that train-inverter made"),
    Part("decoders", "auto", "auto", "AutoDecoder", "the one of several decoders whose texts teach most about held-out rows; auto:NAME,NAME,..."),
    Part("decoders", "llm", "llm", "LLMDecoder",
         "a language model behind OpenAI's chat protocol, llm:MODEL, with --base-url any server of it; probes choose among its drafts",
         packages=("openai", "toktok"), extra="openai"),
    Part("decoders", "search", "search", "SearchDecoder",
         "a language model proposes, the embedder chooses what is near the prototype; search:MODEL, nothing of the source is copied"),
    Part("classifiers", "logistic-regression", "linear", "LogisticRegressionClassifier", "logistic regression over TF-IDF", ("lr",)),
    Part("classifiers", "linear-svm", "linear", "LinearSVMClassifier", "linear support vector machine over TF-IDF", ("svm",)),
    Part("classifiers", "naive-bayes", "linear", "NaiveBayesClassifier", "multinomial naive Bayes over TF-IDF", ("nb",)),
    Part("classifiers", "embedding-lr", "embedding_lr", "EmbeddingLogisticRegression", "logistic regression over the embedder's vectors", ("elr",)),
    Part("classifiers", "text-cnn", "text_cnn", "TextCNNClassifier", "convolutions over word vectors; text-cnn:SOURCE, as glove:SOURCE, 6B.50d is the default"),
    Part("classifiers", "text-rnn", "text_rnn", "TextRNNClassifier", "LSTM over word vectors; text-rnn:SOURCE, as glove:SOURCE, 6B.50d is the default"),
    Part("classifiers", "transformer", "transformer", "TransformerClassifier",
         "fine-tuned encoder; transformer:MODEL, a folder or Hub id, DistilBERT is the default"),
    Part("classifiers", "text-to-text", "generative", "TextToTextClassifier",
         "model that turns a text into the name of its class; text-to-text:MODEL, T5-Base is the default"),
    Part("classifiers", "causal", "generative", "CausalClassifier",
         "model that writes the name of the class after the text; causal:MODEL, SmolLM2-135M is the default"),
    Part("baselines", "random", "random", "RandomBaseline", "real texts drawn at random per class"),
    Part("baselines", "full", "full", "FullBaseline", "every text: what the others are measured against"),
    Part("baselines", "herding", "coreset", "HerdingBaseline", "real texts whose mean vector is that of the class"),
    Part("baselines", "k-center", "coreset", "KCenterBaseline", "real texts such that no other is far from all of them"),
    Part("baselines", "facility-location", "submodular", "FacilityLocationBaseline", "real texts that every other is similar to one of"),
    Part("baselines", "graph-cut", "submodular", "GraphCutBaseline", "real texts that are similar to the class and not to each other"),
    Part("baselines", "least-confidence", "training_scores", "LeastConfidenceBaseline", "real texts that a linear probe is least sure of"),
    Part("baselines", "margin", "training_scores", "MarginBaseline", "real texts between the two classes that a linear probe finds likeliest"),
    Part("baselines", "el2n", "training_scores", "EL2NBaseline", "real texts with the largest error early in the training of a probe"),
    Part("baselines", "grand", "training_scores", "GraNdBaseline", "real texts with the largest gradient early in the training of a probe"),
    Part("baselines", "eda", "eda", "EDABaseline", "random texts and nine versions of each with words changed (EDA)", packages=("nltk",), extra="eda"),
    Part("baselines", "tdd", "tdd", "TDDBaseline", "matrices in place of texts, learned through text-cnn, which alone can read them"),
    Part("baselines", "lora", "lora", "LoRABaseline",
         "low-rank adapters on the full data, for transformers; lora:RANK or lora:SHARE%, 0.8% is the default", packages=("peft",), extra="lora"),
)  # fmt: skip


def names(role: str) -> list[str]:
    """The names of the parts of a role."""
    return [part.name for part in PARTS if part.role == role]


def find(role: str, name: str) -> Part:
    """Looks a part up by its name or one of its aliases.

    Raises:
        UnknownNameError: If there is none of that name; it lists the known ones.
    """
    for part in PARTS:
        if part.role == role and name in (part.name, *part.aliases):
            return part
    raise UnknownNameError(role[:-1], name, names(role))


def split(role: str, name: str) -> tuple[Part, str | None]:
    """The part and the argument of ``NAME`` or ``NAME:ARGUMENT``.

    Raises:
        UnknownNameError: If there is no part of that name; it lists the known ones.
    """
    before, colon, after = name.partition(":")
    return find(role, before), after if colon else None


def make(role: str, name: str, **options: Any) -> Any:
    """Makes a part from its name and options.

    Args:
        role: One of :data:`ROLES`.
        name: ``NAME``, or ``NAME:ARGUMENT`` for parts with one option that is given so often that it stands in the name.
        options: Other options of the part.

    Raises:
        UnknownNameError: If there is no part of that name.
        InputError: If the part takes no argument and one is given, or a blank one.
        MissingDependencyError: If it needs a package that is not installed.
    """
    part, argument = split(role, name)
    kind = part.load()
    if argument is None:
        return kind(**options)
    takes = getattr(kind, "argument", None)
    if takes is None or not argument:
        raise InputError(
            f"expected the {role[:-1]} {part.name!r} {'with' if takes else 'without'} an argument, found {name!r}"
        )
    return kind(**{takes: argument}, **options)
