cpdef double ln(double x) noexcept
cpdef double exp(double x) noexcept
