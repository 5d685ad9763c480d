from daedalus.compiled.walk cimport Walk, quotient


cdef class Column:
    cdef int kind
    cdef Py_ssize_t nulls
    cdef Py_ssize_t room  # rows
    cdef Py_ssize_t used  # bytes of texts, pairs of pairs
    cdef Py_ssize_t spare  # room for those
    cdef unsigned char[::1] valid  # a byte per row: 1 there is a value
    cdef long long[::1] longs  # integers; bits of numbers
    cdef int[::1] ints  # short integers; where texts and pairs begin
    cdef unsigned char[::1] text  # of texts; a byte per row of flags
    cdef unsigned long long[::1] firsts  # bits of pairs
    cdef unsigned long long[::1] seconds
    cdef list _raw  # the memory of: valid, longs or firsts, seconds, ints, text
    cdef object _allocate
    cdef int reserve(self, Py_ssize_t rows, Py_ssize_t more)
    cdef int reserve_more(self, Py_ssize_t more)
    cdef tuple buffers(self, Py_ssize_t rows)
    cdef int append(self, Walk walk, Py_ssize_t rows, Py_ssize_t begin, Py_ssize_t end, Py_ssize_t field, long long divisor)
    cdef int append_long(self, Walk walk, Py_ssize_t rows, Py_ssize_t begin, Py_ssize_t end, Py_ssize_t field)
    cdef int append_pairs(self, Walk walk, Py_ssize_t rows, Py_ssize_t begin, Py_ssize_t end, Py_ssize_t field)
