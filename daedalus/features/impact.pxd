from daedalus.features.grid cimport Grid

cdef class Impact:
    cdef double[::1] row
    cdef Py_ssize_t at
    cdef int new_session(self)
    cdef int hole(self, long long start, long long end)
    cdef int trades_gap(self, long long start, long long end)
    cdef int trade(self, long long ts, double price, double amount, int side)
    cdef int seconds(self, Grid grid, Py_ssize_t fresh)
    cdef int book(self, long long ts, bint valid, double mid, double ofi)
    cdef int rebase(self)
    cdef int write(self, long long ts, bint valid)
