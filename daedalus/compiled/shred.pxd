from daedalus.compiled.column cimport Column
from daedalus.compiled.walk cimport Form, Walk, quotient


cdef class Stream:
    cdef long long _period
    cdef bint _begun
    cdef bint _meet(self, long long period) noexcept


cdef class Group:
    cdef readonly Py_ssize_t rows
    cdef readonly Py_ssize_t held  # bytes, about
    cdef readonly bint overtaken  # had a record after one of a later period
    cdef public bint kept  # False: its records are passed over
    cdef readonly object owner
    cdef Form _form
    cdef Stream _stream
    cdef long long _period
    cdef list _columns
    cdef bint _sorted
    cdef long long _latest
    cdef long long _tag
    cdef object _context
    cdef const unsigned char[::1] _names  # UTF-8, one after the other
    cdef long long[::1] _sizes  # theirs
    cdef Group _after  # what came after it last time
    cdef Py_ssize_t _taken  # rows when it was emptied last
    cdef list _used  # what its columns used then
    cdef tuple _take(self)


cdef class Shredder:
    cdef readonly Py_ssize_t held  # bytes in all groups, about
    cdef readonly Py_ssize_t rows
    cdef readonly list ripe  # groups to be taken now; the caller empties it
    cdef Walk _walk
    cdef object _open
    cdef object _allocate
    cdef long long _span
    cdef Py_ssize_t _ripe_rows
    cdef dict _known
    cdef dict _contexts
    cdef Group _last
    cdef Group _group(self, object context, Form form, long long tag, Py_ssize_t row)
    cdef tuple _names_at(self, Form form, Py_ssize_t start)
    cdef bint _is_of(self, Group group, object context, long long tag, long long period, Form form, Py_ssize_t start)
    cdef int _share(self, list groups, Py_ssize_t first)
    cdef int _store(self, Group group, Py_ssize_t begin, Py_ssize_t end)
    cdef list _columns(self, Group group, Form form)
    cdef int _order(self, Group group, Py_ssize_t begin, Py_ssize_t end, Py_ssize_t field)
