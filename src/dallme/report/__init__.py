"""Results for people: tables and the dataset card."""
