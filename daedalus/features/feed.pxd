cdef class Head:
    cdef readonly int kind
    cdef readonly long long ts_recv
    cdef readonly long long ts_event
    cdef readonly long long seq
    cdef readonly long long flags
    cdef readonly int side
    cdef readonly bint whole
    cdef readonly bytes session
    cdef readonly double price
    cdef readonly double amount
    cdef readonly double base_volume
    cdef readonly bytes bids
    cdef readonly bytes asks
    cpdef bint read(self, bytes blob)
