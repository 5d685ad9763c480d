from daedalus.features.grid cimport Grid

cdef class Bars:
    cdef int hole(self, long long start, long long end)
    cdef int trade(self, long long ts, double price, double amount, int side)
    cdef int book(self, long long ts, bint valid, double mid, double spread, double imbalance, double ofi, Grid grid, Py_ssize_t fresh)
    cpdef object pop(self)
