from daedalus.features.window cimport Ring

cdef class Grid:
    cdef Ring seconds
    cdef int hole(self, long long start, long long end)
    cdef Py_ssize_t book(self, long long ts, bint valid, double mid)
