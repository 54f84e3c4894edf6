"""The texts as work for people who annotate: their labels are proposals, to be confirmed or changed."""

from __future__ import annotations

from dallme.exports.base import Material, encode_json


def argilla(material: Material) -> bytes:
    """A list of records as ``rg.Dataset.records.log`` of Argilla 2 takes them.

    The dataset's settings need a text field ``text`` and a label question ``label``; the label becomes its suggestion. A
    float metadata property ``weight``, if there is one, gets the weight.
    """
    weights = material.distilled.weights.tolist()
    return encode_json(
        [
            {"id": str(row), "text": text, "label": name, "weight": weight}
            for row, ((text, name), weight) in enumerate(zip(material.rows(), weights, strict=True))
        ]
    )


def label_studio(material: Material) -> bytes:
    """A list of tasks in Label Studio's JSON format, each with the label as its prediction.

    The labelling configuration needs ``<Text name="text" value="$text"/>`` and ``<Choices name="label" toName="text">``.
    """
    weights = material.distilled.weights.tolist()
    return encode_json(
        [
            {"data": {"text": text, "weight": weight}, "predictions": [_prediction(name)]}
            for (text, name), weight in zip(material.rows(), weights, strict=True)
        ]
    )


def _prediction(name: str) -> dict[str, object]:
    choice = {"from_name": "label", "to_name": "text", "type": "choices", "value": {"choices": [name]}}
    return {"model_version": "dallme", "result": [choice]}
