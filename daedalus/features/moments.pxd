from daedalus.features.deviations cimport Deviations
from daedalus.features.grid cimport Grid
from daedalus.features.measure cimport Measure
from daedalus.features.realized cimport Realized
from daedalus.features.regime cimport Regime
from daedalus.features.rolling cimport Rolling
from daedalus.features.window cimport Ring

cdef class WindowsOfBook:
    cdef double[::1] row
    cdef Py_ssize_t at
    cdef Py_ssize_t count
    cdef Py_ssize_t brief
    cdef Realized realized
    cdef Regime regime
    cdef Deviations depth
    cdef Deviations minute
    cdef int hole(self, long long start, long long end)
    cdef int seconds(self, Grid grid, Py_ssize_t fresh)
    cdef int step(self, long long ts, bint valid, Measure measure)
    cdef int rebase(self)
    cdef int write(self, long long ts, bint valid, Grid grid, Rolling rolling)
