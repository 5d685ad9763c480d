from daedalus.features.elementary cimport ln
from daedalus.features.flow cimport Flow
from daedalus.features.window cimport Ring, Windows

cdef class Rolling:
    cdef double[::1] row
    cdef Py_ssize_t at
    cdef Py_ssize_t count
    cdef double[::1] ratio
    cdef double[::1] log_ratio
    cdef long long[::1] span
    cdef long long last_hole
    cdef long long[::1] hidden
    cdef long long[::1] first_hole
    cdef Windows books
    cdef Windows tape
    cdef Ring holes
    cdef int hole(self, long long start, long long end)
    cdef int trade(self, long long ts, double amount, int side)
    cdef int step(self, long long ts, bint valid, double mid, Flow flow)
    cdef int rebase(self)
    cpdef long long newest(self)
    cdef double covered(self, Py_ssize_t window, long long ts) noexcept
    cdef int write(self, long long ts, bint valid, double mid, bint with_trades)
