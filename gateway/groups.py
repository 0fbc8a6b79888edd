"""Interest groups: the clients that get exactly the same channels, and what is on its way to them.  Pure, hot.

While a batch comes in, each bus message is appended, without its brackets, to the list of every group that holds its
channel; the mark seals the lists; a flush makes each group's list one WebSocket frame, for all its members.
"""

import logging
import struct
from collections.abc import Hashable, Iterable, Iterator
from typing import Final

import msgspec

from shared.channels import get_wildcard
from shared.names import Names
from shared.notice import Addressed, Notice, decode_notice
from shared.protocol import encode_status

_log = logging.getLogger(__name__)
_TEXT_FIN: Final = 0x81  # RFC 6455 section 5.2: FIN and opcode 1, text
NO_CHANNELS: Final[frozenset[str]] = frozenset()


class Group:
    """The members that get exactly `channels`; what came since the last mark, and what is sealed for the flush."""

    __slots__ = ("channels", "members", "parts", "sealed")

    def __init__(self, channels: frozenset[str]) -> None:
        self.channels = channels
        self.members: dict[Hashable, None] = {}
        self.parts: list[bytes] = []
        self.sealed: list[bytes] = []


def encode_frame(parts: list[bytes]) -> bytes:
    """One text frame that holds an array of the parts; unmasked, as servers send (RFC 6455 section 5.2).

    websockets' own serialiser gives the same bytes in 1.6 us, this takes 0.5 us (10 events, join included).
    """
    body = b",".join(parts)
    size = len(body) + 2
    if size < 126:
        return b"%c%c[%b]" % (_TEXT_FIN, size, body)
    if size < 65536:
        return b"%b[%b]" % (struct.pack("!BBH", _TEXT_FIN, 126, size), body)
    return b"%b[%b]" % (struct.pack("!BBQ", _TEXT_FIN, 127, size), body)


class Groups:
    """All groups of a gateway, and the routes that follow from them."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._groups: dict[frozenset[str], Group] = {}
        self._group_of: dict[Hashable, Group] = {}
        self.routes: dict[bytes, list[list[bytes]]] = {}  # bus channel -> the lists of the groups that hold it

    def get_channels(self, member: Hashable) -> frozenset[str]:
        """What the member gets; nothing if it is in no group."""
        group = self._group_of.get(member)
        return group.channels if group is not None else NO_CHANNELS

    def count_members(self, channels: Iterable[str]) -> int:
        """How many members get events of at least one of these exact channels."""
        wanted = {part for channel in channels for part in (channel, get_wildcard(channel))}
        return sum(len(group.members) for group in self._groups.values() if not wanted.isdisjoint(group.channels))

    def move(self, member: Hashable, target: frozenset[str]) -> None:
        """The member gets exactly these channels from now on."""
        self.leave(member)
        if not target:
            return
        group = self._groups.get(target)
        if group is None:
            group = self._groups[target] = Group(target)
            for route in self._get_routes(group):
                self.routes.setdefault(route, []).append(group.parts)
        group.members[member] = None
        self._group_of[member] = group

    def leave(self, member: Hashable) -> None:
        """The member gets nothing any more."""
        group = self._group_of.pop(member, None)
        if group is None:
            return
        del group.members[member]
        if group.members:
            return
        del self._groups[group.channels]
        for route in self._get_routes(group):
            lists = self.routes[route]
            lists[:] = [parts for parts in lists if parts is not group.parts]
            if not lists:
                del self.routes[route]

    def _get_routes(self, group: Group) -> list[bytes]:
        return [self._names.get_bus_channel(channel).encode() for channel in group.channels]

    def collect_notice(self, payload: bytes) -> None:
        """A notice came with the batch."""
        try:
            notice = decode_notice(payload)
        except msgspec.DecodeError:
            _log.error("bus: a notice of an unknown shape")
            return
        for group, part in self._address(notice):
            group.parts.append(part)

    def tell(self, notice: Notice) -> None:
        """Let whom it concerns know after all that was sealed."""
        for group, part in self._address(notice):
            group.sealed.append(part)

    def _address(self, notice: Notice) -> Iterator[tuple[Group, bytes]]:
        addressed = Addressed(notice)
        for group in self._groups.values():
            status = addressed.find_status(group.channels)
            if status is not None:
                yield group, encode_status(status)

    def seal(self) -> None:
        """What came since the last mark waits for the flush."""
        for group in self._groups.values():
            if group.parts:
                group.sealed += group.parts
                group.parts.clear()

    def discard(self) -> None:
        """Forget what came since the last mark."""
        for group in self._groups.values():
            group.parts.clear()

    def flush(self) -> Iterator[tuple[bytes, Iterable[Hashable]]]:
        """One frame for each group that has something sealed, with its members."""
        for group in self._groups.values():
            if group.sealed:
                yield encode_frame(group.sealed), group.members
                group.sealed.clear()
