from daedalus.features.grid cimport Grid
from daedalus.features.rolling cimport Rolling
from daedalus.features.measure cimport Measure

cdef class WindowsOfBook:
    cdef double[::1] row
    cdef Py_ssize_t at
    cdef int hole(self, long long start, long long end)
    cdef int seconds(self, Grid grid, Py_ssize_t fresh)
    cdef int step(self, long long ts, bint valid, Measure measure)
    cdef int rebase(self)
    cdef int write(self, long long ts, bint valid, Grid grid, Rolling rolling)
