"""What every service that speaks OpenAI's protocol needs: addresses and keys, requests that are paced, retried and paid for."""
