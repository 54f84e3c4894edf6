"""Files and folders on disk: atomic writes, locks, and output folders that are whole or absent."""
