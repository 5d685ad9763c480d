"""The link: the acknowledged road from a collector's spool to a writer's journal.

    sender (DEALER)                                receiver (ROUTER)
       HELLO name, source, epoch, acked, oldest  ──▶
                                                 ◀──  WELCOME epoch, stored, received, marks
       DATA  epoch, first, count, marks │ blob   ──▶
                                                 ◀──  ACK   epoch, stored      after fdatasync
                                                 ◀──  NACK  epoch, received    a hole: go on behind `received`
                                                 ◀──  NACK  0, 0               I do not know you: say HELLO

Nothing is sent that is not in the spool, nothing leaves the spool that is not acknowledged, and nothing is
acknowledged that is not on disk. Everything else (connections, processes, messages) may be lost at any time.
"""

from daedalus.kernel.journal import Cursor, Entry, Mark
from daedalus.kernel.link.receiver import LinkReceiver
from daedalus.kernel.link.sender import LinkSender

__all__ = ["Cursor", "Entry", "LinkReceiver", "LinkSender", "Mark"]
