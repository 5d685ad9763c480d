from daedalus.features.levels cimport Levels

cdef class Measure:
    cdef Levels levels
    cdef Py_ssize_t max_levels
    cdef Py_ssize_t room
    cdef double[::1] far
    cdef long long[::1] ranged
    cdef double[::1] reach
    cdef double[::1] near
    cdef double[::1] slope
    cdef double[::1] center
    cdef double[::1] variance
    cdef long long[::1] varies
    cdef double spread
    cdef double relative_spread
    cdef double imbalance
    cdef double weighted_mid
    cdef double cog
    cdef double depth_5
    cdef int take(self, double mid, bint valid, bint complete)
    cdef int side(self, int side, Py_ssize_t n, double mid)
