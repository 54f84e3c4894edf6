"""Programs that train on the folder: a start to copy from."""

from __future__ import annotations

from dallme.exports.base import Material, encode

_SKLEARN = '''"""Trains TF-IDF and logistic regression on the texts that dallme distilled.

Needs pandas, pyarrow and scikit-learn. Run: python FILE [FOLDER]
"""

import sys

import pandas
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

folder = sys.argv[1] if len(sys.argv) > 1 else {folder}
texts = pandas.read_parquet(f"{{folder}}/train.parquet", columns=["text", "label_text"])

model = make_pipeline(TfidfVectorizer(), LogisticRegression(max_iter=1000))
model.fit(texts["text"], texts["label_text"])

print(f"trained on {{len(texts)}} texts of the classes: {{', '.join(model.classes_)}}")
for text in ["Put your own texts here.", texts["text"][0]]:
    print(f"{{model.predict([text])[0]}}: {{text[:80]}}")
'''

_SETFIT = '''"""Fine-tunes a sentence encoder on the texts that dallme distilled, with SetFit.

Needs pandas, pyarrow and setfit. Run: python FILE [FOLDER]
"""

import sys

import pandas
from datasets import Dataset
from setfit import SetFitModel, Trainer, TrainingArguments

folder = sys.argv[1] if len(sys.argv) > 1 else {folder}
texts = pandas.read_parquet(f"{{folder}}/train.parquet", columns=["text", "label_text"])
classes = {classes}
rows = {{"text": list(texts["text"]), "label": [classes.index(name) for name in texts["label_text"]]}}

model = SetFitModel.from_pretrained("sentence-transformers/all-MiniLM-L6-v2", labels=classes)
arguments = TrainingArguments(batch_size=16, num_epochs=1, report_to="none", seed=0)
trainer = Trainer(model=model, args=arguments, train_dataset=Dataset.from_dict(rows))
trainer.train()

model.save_pretrained("setfit-model")
print(model.predict(["Put your own texts here."])[0])
'''


def sklearn(material: Material) -> bytes:
    """A program that trains what the honest table calls logistic regression."""
    return encode(_SKLEARN.format(folder=ascii(material.folder)))


def setfit(material: Material) -> bytes:
    """A program that fine-tunes a sentence encoder by contrast, with the package `setfit`, and keeps it in a folder."""
    present = {name for _, name in material.rows()}
    classes = list(dict.fromkeys(name for name in material.classes if name in present))
    return encode(_SETFIT.format(folder=ascii(material.folder), classes=ascii(classes)))
