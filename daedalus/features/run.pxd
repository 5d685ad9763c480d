from daedalus.features.engine cimport FeatureEngine
from daedalus.features.levels cimport Levels
from daedalus.features.machine cimport Machine

cdef class Run:
    cdef Machine machine
    cdef object tape
    cdef const long long[::1] trade_ts
    cdef const double[::1] price
    cdef const double[::1] amount
    cdef const long long[::1] side
    cdef const long long[::1] trade_flags
    cdef const long long[::1] trade_session
    cdef object session_names
    cdef object session
    cdef long long session_code
    cdef Py_ssize_t trade
    cdef Py_ssize_t trade_count
    cdef double[::1] row
    cdef Py_ssize_t width
    cdef Py_ssize_t capacity
    cdef Py_ssize_t count
    cdef long long number
    cdef bint given
    cdef double[::1] values
    cdef long long[::1] ts
    cdef long long[::1] index
    cdef int trades_until(self, long long ts)
    cdef int books(self, object columns)
    cdef int keep(self, long long ts)
    cdef int grow(self)
    cdef object rows(self)
