"""One book of OKX's: the chain of its messages, its checksum where there is one, and its facts."""

from collections.abc import Iterable
from typing import Literal

from daedalus.exchanges.adapter import Control, Item
from daedalus.exchanges.bookstate import BookState
from daedalus.exchanges.okx_messages import BookRow, Texts, ns_of
from daedalus.exchanges.okx_rest import Contract
from daedalus.features.book import ASK, BID

__all__ = ["LEVELS", "BookDamagedError", "OkxBook"]

LEVELS = 400  # a side: what the exchange tells of


class BookDamagedError(ValueError):
    """The book can no longer be trusted; the message has the cause."""

    def __init__(self, reason: Literal["sequence", "checksum", "error"], detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class OkxBook:
    """A book on one connection."""

    def __init__(self, name: str, symbol: str, channels: Iterable[str], levels: int) -> None:
        """Begin with a book that is not valid.

        Args:
            name: the instrument.
            symbol: as configured.
            channels: which of orderbook and depth are wanted.
            levels: per side of an emitted top.
        """
        self.name = name
        self.state = BookState(symbol, channels, levels, LEVELS)
        self._texts = Texts(None)
        self._contract: Contract | None = None
        self._recounted = False  # the book is counted in contracts of another size

    def counted_in(self, contract: Contract | None) -> None:
        """Take what a contract is worth from the next snapshot on: a book has sizes of one kind."""
        self._contract = contract
        self._recounted = self.state.valid

    def take(self, row: BookRow, *, snapshot: bool) -> list[Item]:
        """Return what a row says: nothing before the first snapshot.

        Raises:
            BookDamagedError: the chain is broken, the checksum differs, or the book stays crossed.
            ValueError: a price or size is not a number.
        """
        state, texts = self.state, self._texts
        if snapshot:
            texts = self._texts = Texts(None if self._contract is None else self._contract.base_of)
            texts.checked, self._recounted = bool(row.checksum), False
        elif not state.valid:
            return []
        elif self._recounted:
            raise BookDamagedError("error", f"{self.name}: a contract is worth something else now")
        elif row.prevSeqId != state.nonce:
            raise BookDamagedError(
                "sequence", f"{self.name}: prevSeqId {row.prevSeqId}, expected {state.nonce}"
            )
        elif row.seqId == row.prevSeqId and not row.bids and not row.asks:
            return [Control("heartbeat", state.streams)]  # nothing has changed for a while
        bids, asks = texts.read(BID, row.bids), texts.read(ASK, row.asks)
        if snapshot:
            state.load(bids, asks)
        else:
            state.apply(bids, asks)
        cut_bids, cut_asks = state.truncate(BID), state.truncate(ASK)
        texts.remove(BID, cut_bids)
        texts.remove(ASK, cut_asks)
        if texts.checked and row.checksum and (found := texts.checksum(state.book)) != row.checksum:
            raise BookDamagedError("checksum", f"{self.name}: CRC-32 {found}, expected {row.checksum}")
        ts_event = ns_of(row.ts)
        if snapshot:
            return list(state.snapshot(ts_event, exch_seq=row.seqId, nonce=row.seqId))
        facts = state.update(bids + cut_bids, asks + cut_asks, ts_event, exch_seq=row.seqId, nonce=row.seqId)
        if state.stuck:
            raise BookDamagedError("error", f"{self.name} crossed for {state.crossed} updates")
        return list(facts)
