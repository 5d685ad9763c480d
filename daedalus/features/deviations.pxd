from daedalus.features.window cimport Ring

cdef class Deviations:
    cdef long long span
    cdef Py_ssize_t width
    cdef Ring ring
    cdef long long[::1] seen
    cdef double[::1] total
    cdef double low
    cdef double product(self, double x, double y) noexcept
    cdef void add(self, Py_ssize_t at, double x) noexcept
    cdef void count(self, Py_ssize_t slot, int sign) noexcept
    cdef int evict(self, long long now)
    cdef int enter(self, Py_ssize_t slot)
    cdef int rebase(self)
    cdef double mean(self, Py_ssize_t column) noexcept
    cdef double deviation(self, Py_ssize_t column) noexcept
