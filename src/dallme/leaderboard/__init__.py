"""The benchmark: data sets with fixed rows, submissions, their scores, and the leaderboard."""
