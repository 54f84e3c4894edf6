"""Registry of parts: role and name to the class that implements it. A part is imported on first use."""

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
        name: The name that users write.
        module: Module that holds it, below ``dallme.ROLE``.
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
    Part("embedders", "glove", "glove", "GloVeEmbedder", "mean of word vectors; glove:SOURCE is a file, folder or Hub id, by default 6B.50d"),
    Part("embedders", "model2vec", "static", "StaticEmbedder", "static models of model2vec; model2vec:MODEL is a folder or Hub id",
         packages=("model2vec",), extra="model2vec"),
    Part("embedders", "openai", "openai", "OpenAIEmbedder",
         "models of OpenAI, or with --base-url of any server that speaks its protocol; openai:MODEL", packages=("openai", "toktok"), extra="openai"),
    Part("embedders", "hashing", "hashing", "HashingEmbedder", "hashed words with numpy alone, for tests and as a lower bound"),
    Part("condensers", "k-centroid", "k_centroid", "KCentroid", "k-means centroids per class (the paper's generator)", ("k-means",)),
    Part("condensers", "gaussian-mixture", "gaussian_mixture", "GaussianMixture", "component means of a mixture per class", ("gmm",)),
    Part("condensers", "medoid", "k_centroid", "Medoid", "the real row nearest to each k-means centroid"),
    Part("condensers", "random", "random", "RandomRows", "rows drawn at random per class"),
    Part("decoders", "extractive", "extractive.decoder", "ExtractiveDecoder", "whole sentences of the cluster, chosen to cover the words of its class"),
    Part("decoders", "teaching", "extractive.decoder", "TeachingDecoder", "whole sentences of the cluster, each chosen to reduce the errors of proxy classifiers"),
    Part("decoders", "nearest", "nearest", "NearestDecoder", "the real text nearest to the prototype"),
    Part("decoders", "select", "select", "SelectDecoder",
         "one whole row of each cluster, chosen jointly for linear heads on the vectors"),
    Part("decoders", "vec2text", "vec2text", "Vec2TextDecoder",
         "model that writes texts from vectors and corrects them; vec2text:FOLDER is an inverter of train-inverter"),
    Part("decoders", "auto", "auto", "AutoDecoder", "the decoder of several that is most accurate on held-out rows; auto:NAME,NAME,..."),
    Part("decoders", "llm", "llm", "LLMDecoder",
         "language model of a service; llm:MODEL, with --base-url any server that speaks OpenAI's chat protocol",
         packages=("openai", "toktok"), extra="openai"),
    Part("decoders", "search", "search", "SearchDecoder",
         "beam search of a local language model towards the prototype; search:MODEL, copies no source text"),
    Part("classifiers", "logistic-regression", "linear", "LogisticRegressionClassifier", "logistic regression over TF-IDF", ("lr",)),
    Part("classifiers", "linear-svm", "linear", "LinearSVMClassifier", "linear support vector machine over TF-IDF", ("svm",)),
    Part("classifiers", "naive-bayes", "linear", "NaiveBayesClassifier", "multinomial naive Bayes over TF-IDF", ("nb",)),
    Part("classifiers", "embedding-lr", "linear", "EmbeddingLogisticRegression", "logistic regression over the embedder's vectors", ("elr",)),
    Part("classifiers", "text-cnn", "text_cnn", "TextCNNClassifier", "convolutions over word vectors; text-cnn:SOURCE, as in glove:SOURCE, by default 6B.50d"),
    Part("classifiers", "text-rnn", "text_rnn", "TextRNNClassifier", "LSTM over word vectors; text-rnn:SOURCE, as in glove:SOURCE, by default 6B.50d"),
    Part("classifiers", "transformer", "transformer", "TransformerClassifier",
         "fine-tuned encoder; transformer:MODEL is a folder or Hub id, by default DistilBERT"),
    Part("classifiers", "text-to-text", "generative", "TextToTextClassifier",
         "sequence-to-sequence model that writes the class name; text-to-text:MODEL, by default T5-Base"),
    Part("classifiers", "causal", "generative", "CausalClassifier",
         "causal model that writes the class name after the text; causal:MODEL, by default SmolLM2-135M"),
    Part("classifiers", "setfit", "setfit", "SetFitClassifier",
         "SetFit: embedding model fine-tuned on pairs; setfit:MODEL is a folder or Hub id, by default all-MiniLM-L6-v2",
         packages=("setfit",), extra="setfit"),
    Part("classifiers", "prompt", "prompt", "PromptClassifier",
         "language model of a service, with the texts as examples in its prompt; prompt:MODEL",
         packages=("openai", "toktok"), extra="openai"),
    Part("baselines", "random", "reference", "RandomBaseline", "real texts drawn at random per class"),
    Part("baselines", "random-sentences", "random_sentences", "RandomSentencesBaseline",
         "random sentences of the class, joined up to the token limit"),
    Part("baselines", "full", "reference", "FullBaseline", "the full data, the upper reference"),
    Part("baselines", "herding", "coreset", "HerdingBaseline", "core-set whose mean vector is nearest to the mean of the class (herding)"),
    Part("baselines", "k-center", "coreset", "KCenterBaseline", "core-set that minimises the largest distance to a chosen text (k-center greedy)"),
    Part("baselines", "facility-location", "submodular", "FacilityLocationBaseline", "core-set that maximises facility-location coverage"),
    Part("baselines", "graph-cut", "submodular", "GraphCutBaseline", "core-set that maximises the graph-cut function: similar to the class, not to each other"),
    Part("baselines", "log-determinant", "submodular", "LogDeterminantBaseline", "core-set that maximises the log-determinant: rows that differ from each other"),
    Part("baselines", "optimal-transport", "transport", "OptimalTransportBaseline",
         "core-set to which rows, weighted by their gradients in training, are transported most cheaply"),
    Part("baselines", "least-confidence", "training_scores", "LeastConfidenceBaseline", "real texts for which a linear probe is least confident"),
    Part("baselines", "margin", "training_scores", "MarginBaseline", "real texts with the smallest margin between the two likeliest classes of a linear probe"),
    Part("baselines", "el2n", "training_scores", "EL2NBaseline", "real texts with the largest error norm (EL2N) early in the training of a probe"),
    Part("baselines", "grand", "training_scores", "GraNdBaseline", "real texts with the largest gradient norm (GraNd) early in the training of a probe"),
    Part("baselines", "eda", "eda", "EDABaseline", "random texts with nine augmented versions of each (EDA)", packages=("nltk",), extra="eda"),
    Part("baselines", "tdd", "tdd", "TDDBaseline", "embedding matrices learned by gradient matching, in place of texts, for text-cnn only (TDD)"),
    Part("baselines", "lora", "lora", "LoRABaseline",
         "low-rank adapters on the full data, for transformers; lora:RANK or lora:SHARE%, by default 0.8%", packages=("peft",), extra="lora"),
)  # fmt: skip


def names(role: str) -> list[str]:
    """Returns the names of the parts of a role."""
    return [part.name for part in PARTS if part.role == role]


def find(role: str, name: str) -> Part:
    """Looks a part up by its name or one of its aliases.

    Raises:
        UnknownNameError: If no part has that name; the message lists the known ones.
    """
    for part in PARTS:
        if part.role == role and name in (part.name, *part.aliases):
            return part
    raise UnknownNameError(role[:-1], name, names(role))


def split(role: str, name: str) -> tuple[Part, str | None]:
    """Splits ``NAME`` or ``NAME:ARGUMENT`` into the part and its argument.

    Raises:
        UnknownNameError: If no part has that name; the message lists the known ones.
    """
    before, colon, after = name.partition(":")
    return find(role, before), after if colon else None


def make(role: str, name: str, **options: Any) -> Any:
    """Makes a part from its name and options.

    Args:
        role: One of :data:`ROLES`.
        name: ``NAME``, or ``NAME:ARGUMENT`` for parts whose most used option is given with the name.
        options: Other options of the part.

    Raises:
        UnknownNameError: If no part has that name.
        InputError: If the argument is blank, or the part takes none.
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
