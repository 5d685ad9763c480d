from daedalus.features.levels cimport Levels

cdef class DepthBook:
    cdef int take(self, int kind, long long flags, bytes bids, bytes asks)
    cdef int fill(self, Levels levels)
