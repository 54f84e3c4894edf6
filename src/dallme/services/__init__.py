"""Requests to services with OpenAI's protocol: addresses, keys, rate limits, retries and costs."""
