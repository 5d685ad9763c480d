# CRC-32 as zlib computes it, several times faster where the processor multiplies without carries (x86-64 with
# PCLMULQDQ). Elsewhere `crc32_is_fast` is 0, and the caller asks zlib.
#
# 64 bytes at a time are folded forward: a block of 128 bits that stands d bits before another may be replaced
# by its product with x^d mod P added there. What is left at the end, 16 bytes that are congruent to all that
# was folded, and the bytes behind them go through the table.

cdef extern from *:
    """
    #include <stddef.h>
    #include <stdint.h>
    #if defined(__x86_64__) && defined(__GNUC__)
    #include <immintrin.h>

    static uint32_t dd_table[256];

    static int crc32_is_fast(void) {
        if (!__builtin_cpu_supports("pclmul") || !__builtin_cpu_supports("sse4.1")) return 0;
        for (uint32_t byte = 0; byte < 256; byte++) {
            uint32_t rest = byte;
            for (int bit = 0; bit < 8; bit++) rest = rest >> 1 ^ (rest & 1 ? 0xEDB88320u : 0);
            dd_table[byte] = rest;
        }
        return 1;
    }

    static inline uint32_t dd_bytes(uint32_t rest, const uint8_t *data, size_t size) {
        for (size_t i = 0; i < size; i++) rest = dd_table[(rest ^ data[i]) & 0xFF] ^ rest >> 8;
        return rest;
    }

    __attribute__((target("pclmul,sse4.1")))
    static inline __m128i dd_fold(__m128i block, __m128i by, __m128i onto) {
        __m128i low = _mm_clmulepi64_si128(block, by, 0x00), high = _mm_clmulepi64_si128(block, by, 0x11);
        return _mm_xor_si128(_mm_xor_si128(low, high), onto);
    }

    __attribute__((target("pclmul,sse4.1")))
    static uint32_t crc32_fast(const void *start, size_t size, uint32_t seed) {
        const uint8_t *data = (const uint8_t *)start;
        uint32_t rest = ~seed;
        if (size >= 64) {
            /* x^(512 + 32), x^(512 - 32); x^(128 + 32), x^(128 - 32): mod P, bits reversed */
            const __m128i by_64 = _mm_set_epi64x(0x1c6e41596, 0x154442bd4);
            const __m128i by_16 = _mm_set_epi64x(0x0ccaa009e, 0x1751997d0);
            __m128i block[4];
            for (int i = 0; i < 4; i++) block[i] = _mm_loadu_si128((const __m128i *)data + i);
            block[0] = _mm_xor_si128(block[0], _mm_cvtsi32_si128((int)rest));
            for (data += 64, size -= 64; size >= 64; data += 64, size -= 64)
                for (int i = 0; i < 4; i++)
                    block[i] = dd_fold(block[i], by_64, _mm_loadu_si128((const __m128i *)data + i));
            for (int i = 1; i < 4; i++) block[i] = dd_fold(block[i - 1], by_16, block[i]);
            for (; size >= 16; data += 16, size -= 16)
                block[3] = dd_fold(block[3], by_16, _mm_loadu_si128((const __m128i *)data));
            uint8_t left[16];
            _mm_storeu_si128((__m128i *)left, block[3]);
            rest = dd_bytes(0, left, 16);
        }
        return ~dd_bytes(rest, data, size);
    }
    #else
    static int crc32_is_fast(void) { return 0; }
    static uint32_t crc32_fast(const void *start, size_t size, uint32_t seed) {
        (void)start; (void)size; (void)seed;
        return 0;
    }
    #endif
    """
    bint crc32_is_fast()
    unsigned int crc32_fast(const void *start, size_t size, unsigned int seed)
