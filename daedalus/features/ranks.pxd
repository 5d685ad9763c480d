cdef class Ranks:
    cdef Py_ssize_t capacity
    cdef double[::1] key
    cdef int[::1] rank
    cdef int[::1] left
    cdef int[::1] right
    cdef int[::1] count
    cdef int[::1] size
    cdef Py_ssize_t root
    cdef Py_ssize_t used
    cdef Py_ssize_t free
    cdef Py_ssize_t lower
    cdef Py_ssize_t upper
    cdef Py_ssize_t equal
    cdef double[::1] scratch
    cdef long long[::1] bits
    cdef Py_ssize_t add(self, double x)
    cdef int remove(self, double x)
    cdef Py_ssize_t total(self) noexcept
    cdef long long priority(self, double x) noexcept
    cdef void measure(self, Py_ssize_t node) noexcept
    cdef void hang(self, Py_ssize_t parent, double x, Py_ssize_t node) noexcept
    cdef void split(self, Py_ssize_t node, double x) noexcept
    cdef Py_ssize_t merge(self, Py_ssize_t low, Py_ssize_t high) noexcept
    cdef Py_ssize_t take(self)
    cdef int grow(self)
