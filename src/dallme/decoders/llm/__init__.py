"""A language model behind OpenAI's chat protocol writes the texts; probes choose among its drafts."""
