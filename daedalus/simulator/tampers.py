"""Faults of single messages, each in force on one connection until it has had its number of them."""

from collections.abc import Callable

from daedalus.simulator.hub import Connection, Fate, Odd, Sent

__all__ = ["Duplicate", "Garbage", "Loss", "Reorder", "Swallow"]

_TEXT_8 = b"\x81\x7f"  # final text frame, unmasked, length in the next eight bytes
_SHAPE = b'{"hello":["world",1,null],"e":7,"channel":{},"sequence_num":"?"}'


class _Counted:
    """A tamper that has so many messages of some topics."""

    def __init__(self, concerns: Callable[[str], bool], count: int) -> None:
        self._concerns = concerns
        self._left = count

    def concerns(self, topic: str) -> bool:
        """Return whether a message of this topic is its prey."""
        return self._concerns(topic)

    def _over(self) -> bool:
        self._left -= 1
        return self._left == 0


class Garbage(_Counted):
    """Sends something that is no message in place of one."""

    def __init__(self, concerns: Callable[[str], bool], count: int, how: str) -> None:
        super().__init__(concerns, count)
        self._how = how

    def befall(self, connection: Connection, sent: Sent, topic: str, again: Callable[[], bytes]) -> bool:
        """Garble one message."""
        del topic
        message = again()
        half = message[: len(message) // 2]
        if self._how == "binary":
            connection.push(Odd(half))
        elif self._how == "utf8":
            connection.push(half + b"\xff\xfe" + message[len(half) :])
        else:
            connection.push(_SHAPE if self._how == "shape" else half)
        sent.fate = Fate.GARBLED
        return self._over()


class Loss(_Counted):
    """Numbers messages and does not send them."""

    def befall(self, connection: Connection, sent: Sent, topic: str, again: Callable[[], bytes]) -> bool:
        """Lose one message."""
        del connection, topic
        again()
        sent.fate = Fate.LOST
        return self._over()


class Duplicate(_Counted):
    """Sends messages twice, each under its own number where they are numbered."""

    def befall(self, connection: Connection, sent: Sent, topic: str, again: Callable[[], bytes]) -> bool:
        """Send one message twice."""
        del topic
        connection.push(again())
        connection.push(again())
        sent.fate = Fate.TWICE
        return self._over()


class Reorder(_Counted):
    """Keeps a message back until the next of the same topic has been sent."""

    def __init__(self, concerns: Callable[[str], bool], count: int) -> None:
        super().__init__(concerns, count)
        self._kept: tuple[str, bytes] | None = None

    def concerns(self, topic: str) -> bool:
        """Return whether it waits for a message of this topic."""
        return topic == self._kept[0] if self._kept is not None else self._concerns(topic)

    def befall(self, connection: Connection, sent: Sent, topic: str, again: Callable[[], bytes]) -> bool:
        """Keep one message back, or send what was kept after this one."""
        message = again()
        if self._kept is None:
            self._kept = topic, message
            sent.fate = Fate.LATE
            return False
        connection.push(message)
        connection.push(self._kept[1])
        self._kept = None
        return self._over()


class Swallow:
    """Sends the head of a huge frame: whatever the connection is sent from then on is its payload."""

    def __init__(self, connection: Connection, size: int) -> None:
        """Send the head of a frame of `size` bytes."""
        connection.push(Odd(_TEXT_8 + size.to_bytes(8, "big"), raw=True))

    def concerns(self, topic: str) -> bool:
        """Return True: there is no way around it."""
        del topic
        return True

    def befall(self, connection: Connection, sent: Sent, topic: str, again: Callable[[], bytes]) -> bool:
        """Let the message be payload."""
        del topic
        connection.push(again())
        sent.fate = Fate.GARBLED
        return False
