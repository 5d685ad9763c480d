cdef class Ring:
    cdef long long[::1] ts
    cdef double[::1] value
    cdef Py_ssize_t width
    cdef Py_ssize_t shift
    cdef Py_ssize_t capacity
    cdef long long head
    cdef long long tail
    cdef Py_ssize_t push(self, long long ts)
    cdef int room(self, Py_ssize_t capacity)
    cdef object pieces(self, object values, Py_ssize_t width)

cdef class Windows:
    cdef Ring ring
    cdef bint tape
    cdef Py_ssize_t shift
    cdef Py_ssize_t count
    cdef Py_ssize_t sums
    cdef long long[::1] span
    cdef long long[::1] first
    cdef long long[::1] seen
    cdef double[::1] total
    cdef void one(self, Py_ssize_t k, double x, int step) noexcept
    cdef void move(self, Py_ssize_t window, Py_ssize_t slot, int step) noexcept
    cdef int evict(self, long long now)
    cdef int enter(self, Py_ssize_t slot)
    cdef int rebase(self)
    cdef void add(self, Py_ssize_t at, double x) noexcept
    cdef double sum(self, Py_ssize_t window, Py_ssize_t column) noexcept
    cdef long long observations(self, Py_ssize_t window, Py_ssize_t column) noexcept
