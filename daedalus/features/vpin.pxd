cdef class Vpin:
    cdef double[::1] row
    cdef Py_ssize_t at
    cdef int trades_gap(self, long long start, long long end)
    cdef int trade(self, long long ts, double price, double amount, int side)
    cdef int ticker(self, long long ts, double base_volume)
    cdef int write(self)
