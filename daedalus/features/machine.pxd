from daedalus.features.bars cimport Bars
from daedalus.features.depthbook cimport DepthBook
from daedalus.features.flow cimport Flow
from daedalus.features.grid cimport Grid
from daedalus.features.impact cimport Impact
from daedalus.features.levels cimport Levels
from daedalus.features.measure cimport Measure
from daedalus.features.moments cimport WindowsOfBook
from daedalus.features.rolling cimport Rolling
from daedalus.features.shape cimport Shape
from daedalus.features.vpin cimport Vpin

cdef class Machine:
    cdef object params
    cdef object lie
    cdef object trades_given
    cdef readonly object session
    cdef readonly object book_session
    cdef readonly object trade_session
    cdef double[::1] row
    cdef long long[::1] whole
    cdef Py_ssize_t width
    cdef Py_ssize_t clock_at
    cdef long long interval
    cdef long long stale
    cdef Levels levels
    cdef Measure measure
    cdef Shape shape
    cdef Flow flow
    cdef Rolling rolling
    cdef Grid grid
    cdef WindowsOfBook windows
    cdef Impact impact
    cdef Vpin vpin
    cdef Bars bars
    cdef DepthBook depth
    cdef int order(self, long long ts, long long flags, object session)
    cdef bint book(self, long long ts, long long flags, object session)
    cdef bint delta(self, long long ts, long long flags, object session, int kind, bytes bids, bytes asks)
    cdef int trade(self, long long ts, long long flags, object session, double price, double amount, int side)
    cdef int ticker(self, long long ts, long long flags, object session, double base_volume)
    cdef bint step(self, long long ts, long long flags, bint fresh)
    cdef int hole(self, long long start, long long end)
    cdef int rebase(self)
    cdef int write_clock(self, long long ts)
