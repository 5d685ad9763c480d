cdef class Ring:
    cdef long long[::1] ts
    cdef double[::1] value
    cdef Py_ssize_t width
    cdef Py_ssize_t capacity
    cdef long long head
    cdef long long tail
    cdef Py_ssize_t push(self, long long ts)
    cdef int grow(self)

cdef class Windows:
    cdef Ring ring
    cdef Py_ssize_t count
    cdef Py_ssize_t sums
    cdef Py_ssize_t skip
    cdef long long[::1] span
    cdef long long[::1] first
    cdef long long[::1] seen
    cdef double[::1] total
    cdef int evict(self, long long now)
    cdef int enter(self, Py_ssize_t slot)
    cdef int rebase(self)
    cdef void add(self, Py_ssize_t at, double x) noexcept
    cdef double sum(self, Py_ssize_t window, Py_ssize_t column) noexcept
    cdef long long observations(self, Py_ssize_t window, Py_ssize_t column) noexcept
