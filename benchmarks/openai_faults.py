"""Embeds 20,000 texts with a service that fails one request in ten, and prices the paper's example.

The server runs on this machine with the embedder `hashing`, and counts how often each text was answered.
Run: python benchmarks/openai_faults.py
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np

from _common import HERE, data_folder, make_parser, pick, write

sys.path.insert(0, str(HERE.parent / "tests"))

ROWS, DIMENSION, INPUTS, CONCURRENCY, RATE, SEED = pick(20_000, 2_000), 64, 50, 4, 0.1, 0
#: The paper's example (section 5.8): rows of AG-News, and the price of embedding them.
AG_NEWS_ROWS, PAPER_USD = 120_000, 1.7


def texts() -> list[str]:
    """Returns distinct short texts."""
    return [f"report {row} on item {row * 7919 % 100_003} of the list" for row in range(ROWS)]


def client(url: str, store: str) -> np.ndarray:
    """Embeds all texts with the server and stores the vectors."""
    from dallme.embedders.cache import EmbeddingStore, embed_with_store
    from dallme.embedders.openai import OpenAIEmbedder

    embedder = OpenAIEmbedder(
        "m", base_url=url, dimensions=DIMENSION, max_inputs=INPUTS, concurrency=CONCURRENCY, first_pause=0.02
    )
    return embed_with_store(embedder, texts(), store=EmbeddingStore(store))


def faults() -> dict[str, Any]:
    """Runs a client until half of the texts are answered, kills it, and lets another finish."""
    from dallme.embedders.cache import EmbeddingStore, text_keys
    from dallme.embedders.hashing import HashingEmbedder
    from dallme.embedders.openai import OpenAIEmbedder
    from openai_server import OpenAIServer

    sent, direct = texts(), HashingEmbedder(DIMENSION)
    with tempfile.TemporaryDirectory() as store, OpenAIServer(direct, rate=RATE, seed=SEED) as server:
        started = time.perf_counter()
        running = subprocess.Popen([sys.executable, __file__, "--client", server.url, store])
        while len(server.paid) < ROWS // 2:
            time.sleep(0.01)
            if running.poll() is not None:
                sys.exit("the client ended before it was killed")
        running.send_signal(signal.SIGKILL)
        running.wait()
        time.sleep(0.5)  # the server answers its last requests
        killed_at = {"texts_answered": len(server.paid), "requests": server.requests}
        fingerprint = OpenAIEmbedder("m", base_url=server.url, dimensions=DIMENSION).fingerprint()
        in_store = EmbeddingStore(store).table(fingerprint).lookup(text_keys(sent))
        vectors = client(server.url, store)
        seconds = time.perf_counter() - started
        stored = [text for text, is_stored in zip(sent, in_store, strict=True) if is_stored]
        return {
            "texts": ROWS,
            "texts_a_request": INPUTS,
            "concurrency": CONCURRENCY,
            "share_of_faults": RATE,
            "faults": dict(sorted(server.faults.items())),
            "killed_at": killed_at | {"texts_in_store": len(stored)},
            "requests": server.requests,
            "largest_difference_to_direct_vectors": float(np.abs(vectors - direct.embed(sent)).max()),
            "texts_in_store_at_the_kill_that_were_paid_again": sum(server.paid[text] > 1 for text in stored),
            "texts_under_way_at_the_kill_that_were_paid_twice": sum(
                count > 1 for count in server.paid.values()
            ),
            "most_texts_that_can_be_under_way": INPUTS * CONCURRENCY,
            "texts_whose_answer_was_lost_by_a_fault": len(server.lost),
            "seconds": round(seconds, 1),
        }


def paper_example() -> dict[str, Any]:
    """Prices AG-News with and without a prompt."""
    from dallme.embedders.cost import make_plan
    from dallme.embedders.openai import OpenAIEmbedder
    from dallme.readers import read

    source = read(data_folder() / "ag_news" / "train.parquet")
    usd, tokens = {}, {}
    for model in ("text-embedding-3-large", "text-embedding-ada-002"):
        for prompt in (None, "topic"):
            plan = make_plan(OpenAIEmbedder(model), source.texts, prompt=prompt).for_rows(AG_NEWS_ROWS)
            name = f"{model}{' with prompt' if prompt else ''}"
            usd[name], tokens[name] = round(plan.price_usd or 0, 3), plan.tokens
    large, ada = usd["text-embedding-3-large"], usd["text-embedding-ada-002"]
    large_prompt, ada_prompt = (
        usd["text-embedding-3-large with prompt"],
        usd["text-embedding-ada-002 with prompt"],
    )
    return {
        "rows": AG_NEWS_ROWS,
        "counted_on_rows": len(source),
        "tokens": tokens,
        "usd": usd,
        "paper_usd": PAPER_USD,
        "readings_usd": {
            "both models": round(large + ada, 3),
            "both models, with prompt": round(large_prompt + ada_prompt, 3),
            "text-embedding-3-large, without and with prompt": round(large + large_prompt, 3),
            "both models, without and with prompt": round(large + ada + large_prompt + ada_prompt, 3),
        },
    }


def main() -> None:
    """Runs both parts and writes the results."""
    parser = make_parser(__doc__)
    parser.add_argument("--client", nargs=2, metavar=("URL", "STORE"), help="the process that is killed")
    options = parser.parse_args()
    if options.client:
        client(*options.client)
        return
    write("openai_faults", {"faults": faults(), "paper_example": paper_example()})


if __name__ == "__main__":
    main()
