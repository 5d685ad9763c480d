from daedalus.features.flow cimport Flow
from daedalus.features.levels cimport Levels
from daedalus.features.rolling cimport Rolling
from daedalus.features.shape cimport Shape

cdef class FeatureEngine:
    cdef readonly object params
    cdef readonly object schema
    cdef object _trades_given
    cdef object _spans
    cdef object _session
    cdef object _book_session
    cdef object _clean_bytes
    cdef double[::1] _row
    cdef double[::1] _clean
    cdef long long[::1] _whole
    cdef Py_ssize_t _width
    cdef Py_ssize_t _rolling_at
    cdef Py_ssize_t _clock_at
    cdef long long _longest
    cdef long long _interval
    cdef long long _stale
    cdef Levels _levels
    cdef Shape _shape
    cdef Flow _flow
    cdef Rolling _rolling
    cdef object _book(self, long long ts, long long flags, object session, bytes bids, bytes asks)
    cdef int _order(self, long long ts, object session)
    cdef int _trade(self, long long ts, double amount, int side)
    cdef bint _step(self, long long ts, long long flags, bint fresh)
    cdef object _emitted(self)
    cdef int _write_clock(self, long long ts)
