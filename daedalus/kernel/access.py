"""Who may use the control socket: by file mode on the way in, by the kernel's word about the peer once there.

The supervisor's own user and root may do everything, members of the control group too; members of the
read-only group may look. Nobody has to say who they are: the kernel tells uid, gid and groups of whoever
connected.

One file has one group, so the second group is let in by an access list, on the socket and on the directory it
lies in: the mode stays 0660 (0710 for the directory: pass through, and list nothing). Where the file system
has no access lists both are opened to everybody, and the word of the kernel alone decides; it decides in any
case.
"""

import errno
import grp
import os
import pwd
import socket
import struct
from typing import Literal, NamedTuple

from daedalus.kernel.errors import ConfigError

__all__ = ["Access", "Level", "Peer", "peer_of"]

Level = Literal["all", "read", "none"]

_CREDENTIALS = struct.Struct("iII")
_SO_PEERGROUPS = 59
_GROUPS_BYTES = 1024  # the most that getsockopt takes here: 256 groups
_ACL = "system.posix_acl_access"
_ACL_VERSION = 2
_USER_OBJ, _GROUP_OBJ, _GROUP, _MASK, _OTHER = 0x01, 0x04, 0x08, 0x10, 0x20
_NO_ID = 0xFFFFFFFF


class Peer(NamedTuple):
    """Who is at the other end."""

    uid: int
    gids: frozenset[int]  # the effective and the supplementary ones


def peer_of(sock: socket.socket) -> Peer:
    """Return who connected, as the kernel knows it."""
    data = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, uid, gid = _CREDENTIALS.unpack(data)
    return Peer(uid, frozenset({gid, *_groups(sock, uid, gid)}))


def _groups(sock: socket.socket, uid: int, gid: int) -> list[int]:
    """Return the supplementary groups of the peer's process; those of its user where the kernel is older."""
    try:
        data = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GROUPS_BYTES)
    except OSError:  # not known here, or more than fit
        try:
            return os.getgrouplist(pwd.getpwuid(uid).pw_name, gid)
        except KeyError:
            return []
    return list(struct.unpack(f"{len(data) // 4}I", data))


def _gid(name: str, key: str) -> int | None:
    if not name:
        return None
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise ConfigError(f"cannot let the group {name!r} in: there is none ([control] {key})") from None


class Access:
    """The two groups of one supervisor."""

    def __init__(self, control_group: str, readonly_group: str) -> None:
        """Look the groups up; an empty name is no group.

        Raises:
            ConfigError: there is no such group.
        """
        self._uid = os.geteuid()
        self._control = _gid(control_group, "group")
        self._readonly = _gid(readonly_group, "readonly_group")

    @property
    def shared(self) -> bool:
        """Whether anybody but the supervisor's own user is let in."""
        return self._control is not None or self._readonly is not None

    def level(self, peer: Peer) -> Level:
        """Return what this peer may do."""
        if peer.uid in (0, self._uid) or self._control in peer.gids:
            return "all"
        return "read" if self._readonly in peer.gids else "none"

    def open_socket(self, path: str) -> None:
        """Let the groups connect to the socket at `path`, made with mode 0660; before it listens.

        Raises:
            ConfigError: we may not give files to one of the groups.
        """
        self._open(path, mode=0o660, need=0o6)

    def open_directory(self, path: str) -> None:
        """Let the groups pass through the directory at `path` to what they know the name of.

        Raises:
            ConfigError: we may not give files to one of the groups.
        """
        self._open(path, mode=0o710, need=0o1)

    def _open(self, path: str, mode: int, need: int) -> None:
        gids = [gid for gid in (self._control, self._readonly) if gid is not None]
        if not gids:
            return
        try:
            os.chown(path, -1, gids[0])
            os.chmod(path, mode)  # noqa: PTH101 - one path, as the others
            if len(set(gids)) > 1:
                _admit(path, mode, need, gids[1])
        except PermissionError as error:
            raise ConfigError(
                f"cannot give {path} to group {gids[0]}: {error.strerror}; uid {self._uid} must be a member"
            ) from None


def _admit(path: str, mode: int, need: int, gid: int) -> None:
    """Let a second group in by an access list; without one, open the way and leave it to the server."""
    entries = [
        (_USER_OBJ, mode >> 6 & 7, _NO_ID),
        (_GROUP_OBJ, need, _NO_ID),
        (_GROUP, need, gid),
        (_MASK, need, _NO_ID),
        (_OTHER, 0, _NO_ID),
    ]
    data = struct.pack("<I", _ACL_VERSION) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    try:
        os.setxattr(path, _ACL, data)
    except OSError as error:
        if error.errno not in (errno.ENOTSUP, errno.ENOSYS, errno.EINVAL):
            raise
        os.chmod(path, mode | need)  # noqa: PTH101
