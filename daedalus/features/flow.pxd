from daedalus.features.elementary cimport exp, ln
from daedalus.features.levels cimport Levels

cdef class Flow:
    cdef Levels levels
    cdef double[::1] row
    cdef double[::1] weight
    cdef double[::1] book
    cdef double[::1] event
    cdef double[::1] state
    cdef long long[::1] whole
    cdef Py_ssize_t depth
    cdef Py_ssize_t at
    cdef bint vector
    cdef double ofi
    cdef double multi
    cdef double decayed
    cdef double norm
    cdef double log_return
    cdef double velocity
    cdef double accel
    cdef int forget(self)
    cdef int clear(self)
    cdef int step(self, long long ts, double mid)
    cdef double side(self, int side, Py_ssize_t now, Py_ssize_t before) noexcept
    cdef int write(self)
