from daedalus.features.machine cimport Machine

cdef class Cursor:
    cdef object batches
    cdef object columns
    cdef object names
    cdef object order
    cdef object session
    cdef const long long[::1] times
    cdef const long long[::1] flagged
    cdef const long long[::1] codes
    cdef long long code
    cdef Py_ssize_t at
    cdef Py_ssize_t end
    cdef long long rank
    cdef long long ts
    cdef long long flags
    cdef bint next(self)

cdef class Run:
    cdef Machine machine
    cdef Cursor books
    cdef Cursor trades
    cdef Cursor tickers
    cdef const double[::1] price
    cdef const double[::1] amount
    cdef const long long[::1] side
    cdef const double[::1] base_volume
    cdef const long long[::1] bid_offsets
    cdef const long long[::1] ask_offsets
    cdef const double[::1] bid_prices
    cdef const double[::1] bid_sizes
    cdef const double[::1] ask_prices
    cdef const double[::1] ask_sizes
    cdef const long long[::1] whole
    cdef bint changes
    cdef double[::1] row
    cdef Py_ssize_t width
    cdef Py_ssize_t capacity
    cdef Py_ssize_t count
    cdef long long number
    cdef double[::1] values
    cdef long long[::1] ts
    cdef long long[::1] index
    cdef long long[::1] flags
    cdef double[::1] scratch
    cdef int open_books(self)
    cdef int open_trades(self)
    cdef int open_tickers(self)
    cdef int others_until(self, long long rank, long long ts)
    cdef int feed_trade(self)
    cdef int feed_ticker(self)
    cdef bint feed_book(self)
    cdef bint feed_change(self)
    cdef bytes packed(self, const double[::1] prices, const double[::1] sizes, Py_ssize_t at, Py_ssize_t count)
    cdef int keep(self)
    cdef int grow(self)
    cdef object rows(self)
