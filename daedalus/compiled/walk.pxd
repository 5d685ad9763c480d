cpdef long long quotient(long long value, long long divisor) noexcept


cdef class Form:
    cdef int[::1] kinds
    cdef int[::1] nullable
    cdef int[::1] stored
    cdef long long[::1] divisors
    cdef int[::1] names
    cdef Py_ssize_t count
    cdef Py_ssize_t time
    cdef Py_ssize_t fixed


cdef class Walk:
    cdef list forms
    cdef list tags
    cdef bytes blob
    cdef const unsigned char[::1] data
    cdef long long[::1] values
    cdef long long[::1] lengths
    cdef long long[::1] starts
    cdef dict _known
    cdef Py_ssize_t _size
    cdef long long _value
    cdef Py_ssize_t _length
    cdef bint over(self, bytes blob)
    cdef bint _more(self, Py_ssize_t used, Py_ssize_t fields)
    cdef Py_ssize_t _fields(self, Form form, Py_ssize_t at, Py_ssize_t to)
    cdef unsigned long long _big(self, Py_ssize_t at, Py_ssize_t width) noexcept
    cdef Py_ssize_t _array(self, Py_ssize_t at) noexcept
    cdef Py_ssize_t _integer(self, Py_ssize_t at) noexcept
    cdef Py_ssize_t _number(self, Py_ssize_t at) noexcept
    cdef Py_ssize_t _span_of(self, Py_ssize_t at, int kind)
    cdef bint _readable(self, Py_ssize_t at, Py_ssize_t length)
