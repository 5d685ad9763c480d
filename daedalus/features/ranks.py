# cython: language_level=3
# ruff: noqa: ERA001
# mypy: disallow-untyped-decorators=False, disable-error-code="no-any-return,valid-type"
"""How many of a changing set of numbers are less than, and equal to, one of them: O(log n) each.

A treap of the distinct values, each with how often it is there. A node's priority is a hash of its value, so
the tree's shape follows from the values alone, whatever was added and taken before. It enters no result.
"""

from __future__ import annotations

from array import array

import cython

from daedalus.features.levels import floats

__all__ = ["Ranks"]

_31 = cython.declare(cython.longlong, 0x7FFFFFFF)


def words(count: int) -> memoryview[int]:
    """Return `count` int32 zeros."""
    return memoryview(array("i", bytes(4 * count)))


@cython.final
@cython.cclass
class Ranks:
    """A multiset of finite numbers, none of them negative. Grows geometrically; node 0 is none."""

    def __init__(self) -> None:
        self.capacity = 64
        self.key = floats(self.capacity)
        self.rank = words(self.capacity)  # priority
        self.left = words(self.capacity)
        self.right = words(self.capacity)
        self.count = words(self.capacity)  # of this value
        self.size = words(self.capacity)  # of all values in the subtree
        self.root = 0
        self.used = 1
        self.free = 0  # nodes given back, linked by `left`
        self.lower = self.upper = 0  # what `split` returns
        self.equal = 0  # of the value last added
        self.scratch = floats(1)
        self.bits = memoryview(self.scratch).cast("B").cast("q")

    @cython.cfunc
    def add(self, x: cython.double) -> cython.Py_ssize_t:
        """Add a value; return how many are less. `equal` is how many there are of it, itself included."""
        rank: cython.longlong = self.priority(x)
        node: cython.Py_ssize_t = self.root
        parent: cython.Py_ssize_t = 0
        less: cython.Py_ssize_t = 0
        # A node stands above another if its priority is higher; of two equal ones the smaller value does. So
        # if x is below `node`, or is it, the loop goes on.
        while node != 0 and (self.rank[node] > rank or (self.rank[node] == rank and self.key[node] <= x)):
            self.size[node] += 1
            parent = node
            if self.key[node] == x:
                self.count[node] += 1
                self.equal = self.count[node]
                return less + self.size[self.left[node]]
            if self.key[node] < x:
                less += self.size[self.left[node]] + self.count[node]
                node = self.right[node]
            else:
                node = self.left[node]
        self.split(node, x)
        node = self.take()
        self.key[node] = x
        self.rank[node] = rank
        self.count[node] = 1
        self.left[node] = self.lower
        self.right[node] = self.upper
        self.measure(node)
        self.hang(parent, x, node)
        self.equal = 1
        return less + self.size[self.lower]

    @cython.cfunc
    def remove(self, x: cython.double) -> cython.int:
        """Take one of a value that is there."""
        node: cython.Py_ssize_t = self.root
        parent: cython.Py_ssize_t = 0
        while node != 0 and self.key[node] != x:
            self.size[node] -= 1
            parent = node
            node = self.right[node] if self.key[node] < x else self.left[node]
        if node == 0:
            return 0
        self.size[node] -= 1
        self.count[node] -= 1
        if self.count[node] == 0:
            self.hang(parent, x, self.merge(self.left[node], self.right[node]))
            self.left[node] = self.free
            self.free = node
        return 0

    @cython.cfunc
    @cython.exceptval(check=False)
    def total(self) -> cython.Py_ssize_t:
        """Return how many values there are."""
        return self.size[self.root]

    @cython.cfunc
    @cython.exceptval(check=False)
    def priority(self, x: cython.double) -> cython.longlong:
        """Return 31 bits that depend on every bit of x."""
        self.scratch[0] = x
        h: cython.longlong = self.bits[0]
        h = (h ^ (h >> 31)) & _31
        h = (h * 1812433253) & _31
        h ^= h >> 15
        h = (h * 1566083941) & _31
        h ^= h >> 13
        h = (h * 747796405) & _31
        return h ^ (h >> 16)

    @cython.cfunc
    @cython.exceptval(check=False)
    def measure(self, node: cython.Py_ssize_t) -> cython.void:
        """Sum up the size of a subtree from its parts."""
        self.size[node] = self.count[node] + self.size[self.left[node]] + self.size[self.right[node]]

    @cython.cfunc
    @cython.exceptval(check=False)
    def hang(self, parent: cython.Py_ssize_t, x: cython.double, node: cython.Py_ssize_t) -> cython.void:
        """Put a subtree where x belongs below `parent`."""
        if parent == 0:
            self.root = node
        elif self.key[parent] < x:
            self.right[parent] = node
        else:
            self.left[parent] = node

    @cython.cfunc
    @cython.exceptval(check=False)
    def split(self, node: cython.Py_ssize_t, x: cython.double) -> cython.void:
        """Cut a subtree without x in two: `lower` holds what is less, `upper` the rest."""
        if node == 0:
            self.lower = 0
            self.upper = 0
        elif self.key[node] < x:
            self.split(self.right[node], x)
            self.right[node] = self.lower
            self.measure(node)
            self.lower = node
        else:
            self.split(self.left[node], x)
            self.left[node] = self.upper
            self.measure(node)
            self.upper = node

    @cython.cfunc
    @cython.exceptval(check=False)
    def merge(self, low: cython.Py_ssize_t, high: cython.Py_ssize_t) -> cython.Py_ssize_t:
        """Join two subtrees, all of `low` being less than all of `high`; return the root."""
        if low == 0:
            return high
        if high == 0:
            return low
        if self.rank[low] >= self.rank[high]:
            self.right[low] = self.merge(self.right[low], high)
            self.measure(low)
            return low
        self.left[high] = self.merge(low, self.left[high])
        self.measure(high)
        return high

    @cython.cfunc
    def take(self) -> cython.Py_ssize_t:
        """Return a node nobody uses."""
        node: cython.Py_ssize_t = self.free
        if node != 0:
            self.free = self.left[node]
            return node
        if self.used == self.capacity:
            self.grow()
        node = self.used
        self.used += 1
        return node

    @cython.cfunc
    def grow(self) -> cython.int:
        """Double the capacity."""
        key: cython.double[::1] = floats(2 * self.capacity)
        i: cython.Py_ssize_t
        for i in range(self.capacity):
            key[i] = self.key[i]
        self.key = key
        self.rank = self.wider(self.rank)
        self.left = self.wider(self.left)
        self.right = self.wider(self.right)
        self.count = self.wider(self.count)
        self.size = self.wider(self.size)
        self.capacity *= 2
        return 0

    def wider(self, old: memoryview[int]) -> memoryview[int]:
        """Return a copy with twice the room."""
        out = words(2 * self.capacity)
        out[: self.capacity] = old
        return out
