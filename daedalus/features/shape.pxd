from daedalus.features.elementary cimport exp, ln
from daedalus.features.levels cimport Levels
from daedalus.features.measure cimport Measure

cdef class Shape:
    cdef Levels levels
    cdef Measure measure
    cdef double[::1] row
    cdef double[::1] edges
    cdef double[::1] band
    cdef double[::1] near
    cdef double[::1] known
    cdef double[::1] weight
    cdef double[::1] work
    cdef long long[::1] rank
    cdef Py_ssize_t room
    cdef double[::1] log_size
    cdef double[::1] log_value
    cdef Py_ssize_t max_levels
    cdef Py_ssize_t bands
    cdef Py_ssize_t imbalance_at
    cdef Py_ssize_t bands_at
    cdef Py_ssize_t sides_at
    cdef Py_ssize_t both_at
    cdef double smart_k
    cdef double widest
    cdef int write(self, double mid, bint valid, bint complete)
    cdef int one_side(self, int side, Py_ssize_t n)
    cdef double gini(self, Py_ssize_t at, Py_ssize_t n, double total) noexcept
    cdef int distances(self, int side, Py_ssize_t n, double mid)
    cdef int decay(self, int side, Py_ssize_t n)
    cdef int prices(self, double mid)
    cdef int across(self, bint complete)
