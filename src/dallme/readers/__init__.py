"""From what a user has to :class:`~dallme.data.LabelledTexts`.

A source is opened to :class:`~dallme.readers.rows.Rows` by the file of its kind (`text_files`, `columnar`, `folders`, `hub`,
`memory`); `columns` finds the texts and labels in it, `labels` makes class ids, `build` checks the rows and puts all together.
"""

from dallme.readers.reading import read

__all__ = ["read"]
