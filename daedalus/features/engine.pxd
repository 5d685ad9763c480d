from daedalus.features.feed cimport Head
from daedalus.features.levels cimport Levels
from daedalus.features.machine cimport Machine

cdef class FeatureEngine:
    cdef readonly object params
    cdef readonly object schema
    cdef object _lie
    cdef object _trades_given
    cdef object _clean_bytes
    cdef double[::1] _clean
    cdef Py_ssize_t _width
    cdef Machine _machine
    cdef bytes _session_bytes
    cdef object _session
    cdef object _book(self, long long ts, long long flags, object session, bytes bids, bytes asks)
    cdef object _emitted(self)
