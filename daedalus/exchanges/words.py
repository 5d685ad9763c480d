"""The exchange's own object beside the row that was decoded from it: `raw_capture = "info"`.

A row has the fields that we use, and its numbers are binary: written anew it would be neither whole nor word
for word. So the text is cut out of the message by a second look, and only where somebody wants it.
"""

from collections.abc import Iterable, Sequence

import msgspec

__all__ = ["Words", "texts_of", "words_of"]

Words = dict[int, str]
"""The `id` of a row -> its text; of use only as long as the rows live."""

_array: msgspec.json.Decoder[list[msgspec.Raw]] = msgspec.json.Decoder(list[msgspec.Raw])
texts_of = _array.decode


def words_of(rows: Sequence[object], texts: Iterable[msgspec.Raw]) -> Words:
    """Return the text of each row, by its `id`.

    Args:
        rows: as they were decoded, in the order of the message.
        texts: of the same message, in the same order.

    Raises:
        ValueError: they are not as many, or a text is not UTF-8.
    """
    return {id(row): bytes(text).decode() for row, text in zip(rows, texts, strict=True)}
