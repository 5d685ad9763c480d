from daedalus.features.window cimport Ring

cdef class Realized:
    cdef Py_ssize_t count
    cdef Ring ring
    cdef long long[::1] span
    cdef long long[::1] first
    cdef long long[::1] added
    cdef double[::1] total
    cdef void add(self, Py_ssize_t k, double x, int step) noexcept
    cdef double pair(self, long long position) noexcept
    cdef void count_in(self, Py_ssize_t w, long long position, int step) noexcept
    cdef int enter(self, long long ts, double r)
    cdef int evict(self, long long now)
    cdef int rebase(self)
    cdef long long returns(self, Py_ssize_t window) noexcept
    cdef double squares(self, Py_ssize_t window) noexcept
    cdef double pairs(self, Py_ssize_t window) noexcept
    cdef double before(self, long long ts) noexcept
