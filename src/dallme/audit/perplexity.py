"""How likely a language model finds texts."""

from __future__ import annotations

import math
from collections.abc import Sequence

from dallme.progress import Progress, SilentProgress


def perplexity_of(texts: Sequence[str], model: str, *, limit: int = 512, progress: Progress | None = None) -> float | None:
    """Perplexity of texts under a causal model: the exponential of the mean negative log-likelihood of a token.

    Each text is read on its own, its first token after nothing where the model has a token to begin with, and not at all
    where it has none.

    Args:
        texts: The texts.
        model: As :func:`dallme.models.language.find_model` takes it, such as ``smollm2``.
        limit: Tokens of a text that are read.
        progress: Where to show progress.

    Returns:
        The perplexity; None if no text has a token to predict.

    Raises:
        DallmeError: If the model cannot be loaded.
    """
    import torch

    from dallme.models.language import load_causal, token_limit

    network, tokenizer = load_causal(model)
    limit = token_limit(network, tokenizer, limit, reserve=1)
    total, tokens = 0.0, 0
    with (progress or SilentProgress()).task("audit: perplexity", total=len(texts)) as task, torch.inference_mode():
        for text in texts:
            ids = tokenizer(text, add_special_tokens=False, truncation=True, max_length=limit).input_ids
            if tokenizer.bos_token_id is not None:
                ids = [tokenizer.bos_token_id, *ids]
            if len(ids) > 1:
                batch = torch.tensor([ids])
                scores = network(input_ids=batch).logits[0, :-1].float().log_softmax(dim=-1)
                total -= float(scores.gather(1, batch[0, 1:, None]).sum())
                tokens += len(ids) - 1
            task.advance()
    return math.exp(total / tokens) if tokens else None
