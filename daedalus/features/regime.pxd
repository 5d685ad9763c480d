from daedalus.features.ranks cimport Ranks
from daedalus.features.window cimport Ring

cdef class Regime:
    cdef long long span
    cdef bint dynamic
    cdef double tight
    cdef double wide
    cdef Ring spreads
    cdef Ranks ranks
    cdef Ring lasted
    cdef long long[::1] length
    cdef long long[::1] whole
    cdef double percentile
    cdef int hole(self, long long start)
    cdef int step(self, long long ts, bint valid, double spread)
    cdef int turn(self, long long regime, long long ts)
    cdef void count(self, Py_ssize_t slot, int sign) noexcept
    cdef double now(self) noexcept
    cdef double share(self, long long regime, long long ts) noexcept
