from daedalus.features.elementary cimport ln
from daedalus.features.window cimport Ring

cdef class Grid:
    cdef Ring seconds
    cdef Py_ssize_t fresh
    cdef long long[::1] whole
    cdef double[::1] state
    cdef int hole(self, long long start, long long end)
    cdef Py_ssize_t book(self, long long ts, bint valid, double mid)
    cdef int finish(self, long long last)
    cdef double log_return(self, long long g) noexcept
    cdef double standing(self, long long ts) noexcept
