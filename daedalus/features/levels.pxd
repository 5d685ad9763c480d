cdef class Levels:
    cdef double[::1] price
    cdef double[::1] size
    cdef readonly Py_ssize_t capacity
    cdef readonly Py_ssize_t bids
    cdef readonly Py_ssize_t asks
    cdef int split(self, int side, const double[::1] prices, Py_ssize_t p, const double[::1] sizes, Py_ssize_t s, Py_ssize_t count)
    cdef int packed(self, int side, bytes packed)
    cdef int reserve(self, Py_ssize_t levels)
