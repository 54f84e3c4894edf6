"""Readers: any source of labelled texts becomes :class:`~dallme.data.LabelledTexts`.

`files`, `formats`, `text_formats`, `hub` and `memory` open a source as
:class:`~dallme.readers.rows.Rows`. `rows` chooses its columns, `labels` makes class ids of labels, and
`reading` checks the rows.
"""

from dallme.readers.reading import read

__all__ = ["read"]
