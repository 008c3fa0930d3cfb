/* The streams of version 1 and moments, as reference.py defines them, to the bit.
 *
 * Compiled with -ffp-contract=off: a multiply-add that is fused rounds once where two steps round twice. Nothing of
 * libm is called. No state is kept and no thread is started: calls may run beside each other, and in forked processes.
 */

#include "kernel.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#define ABI 4
#define LANES 16   /* sums that the elements of a block are dealt to */
#define BLOCK 2048 /* elements that are drawn and measured at a time: they lie in the first-level cache */

enum dtype { FLOAT32, FLOAT64, BFLOAT16, FLOAT16 };

/* Memory of others, which may begin anywhere. */
typedef float held_float __attribute__((aligned(1)));
typedef double held_double __attribute__((aligned(1)));
typedef uint16_t held_half __attribute__((aligned(1)));

struct draw {
    int32_t uniform;
    float scale, shift, low, high;
    uint32_t first;
    uint64_t number;
};

struct moments {
    int64_t numel;
    double mean, std, min, max;
};

#define FIRST 0xD2E7470EE14C6C93u /* multipliers of Philox */
#define SECOND 0xCA5A826395121157u
#define STEP0 0x9E3779B97F4A7C15u /* of its keys, from round to round */
#define STEP1 0xBB67AE8584CAA73Bu
#define VECTORS 8 /* blocks that wide vectors compute at a time, and those beside them */
#define SCALARS 4
#define MANY (VECTORS + SCALARS)
#define UNROLLED _Pragma("GCC unroll 10")

/* Words ------------------------------------------------------------------------------------------------------- */

struct product {
    uint64_t high, low;
};

/* The product of 64-bit words, by the multiplier of whole words. */
INLINE struct product times(uint64_t one, uint64_t other) {
    unsigned __int128 product = (unsigned __int128)one * other;
    return (struct product){(uint64_t)(product >> 64), (uint64_t)product};
}

/* The same by products of halves, which vectors have. */
INLINE struct product times_by_halves(uint64_t one, uint64_t other) {
    uint64_t low = (uint32_t)one, high = one >> 32, other_low = (uint32_t)other, other_high = other >> 32;
    uint64_t middle = high * other_low + (low * other_low >> 32), last = low * other_high + (uint32_t)middle;
    return (struct product){high * other_high + (middle >> 32) + (last >> 32), one * other};
}

/* A round of Philox4x64-10, Salmon et al. 2011, on one block. */
#define ROUND(TIMES, a, b, c, d, k0, k1)                                                                             \
    do {                                                                                                             \
        struct product first = TIMES(a, FIRST), second = TIMES(c, SECOND);                                           \
        a = second.high ^ b ^ k0;                                                                                    \
        b = second.low;                                                                                              \
        c = first.high ^ d ^ k1;                                                                                     \
        d = first.low;                                                                                               \
    } while (0)

INLINE void lay_out(uint32_t *words, uint64_t a, uint64_t b, uint64_t c, uint64_t d) {
    uint64_t quads[4] = {a, b, c, d};
    for (int i = 0; i < 4; i++) {
        words[2 * i] = (uint32_t)quads[i];
        words[2 * i + 1] = (uint32_t)(quads[i] >> 32);
    }
}

/* The eight 32-bit words of a block. */
INLINE void encipher(uint32_t *words, uint64_t block, uint64_t k0, uint64_t k1) {
    uint64_t a = block, b = 0, c = 0, d = 0;
    UNROLLED for (int round = 0; round < 10; round++, k0 += STEP0, k1 += STEP1)
        ROUND(times, a, b, c, d, k0, k1);
    lay_out(words, a, b, c, d);
}

/* The words of VECTORS blocks that vectors compute, and of SCALARS blocks after them: the two multiply in different
 * parts of a processor, at the same time. */
INLINE void encipher_many(uint32_t *words, uint64_t block, uint64_t k0, uint64_t k1) {
    uint64_t a[VECTORS], b[VECTORS], c[VECTORS], d[VECTORS], e[SCALARS], f[SCALARS], g[SCALARS], h[SCALARS];
    for (int i = 0; i < VECTORS; i++) {
        a[i] = block + (uint64_t)i;
        b[i] = c[i] = d[i] = 0;
    }
    for (int i = 0; i < SCALARS; i++) {
        e[i] = block + (uint64_t)(VECTORS + i);
        f[i] = g[i] = h[i] = 0;
    }
    for (int round = 0; round < 10; round++, k0 += STEP0, k1 += STEP1) {
        for (int i = 0; i < VECTORS; i++)
            ROUND(times_by_halves, a[i], b[i], c[i], d[i], k0, k1);
        UNROLLED for (int i = 0; i < SCALARS; i++)
            ROUND(times, e[i], f[i], g[i], h[i], k0, k1);
    }
    for (int i = 0; i < VECTORS; i++) lay_out(words + 8 * i, a[i], b[i], c[i], d[i]);
    for (int i = 0; i < SCALARS; i++) lay_out(words + 8 * (VECTORS + i), e[i], f[i], g[i], h[i]);
}

/* Words `start` to `start + count` of a stream. */
INLINE void write_run(uint32_t *words, uint64_t start, int64_t count, uint64_t k0, uint64_t k1, const int wide) {
    uint64_t block = start / 8;
    int64_t skipped = (int64_t)(start % 8);
    uint32_t some[8];
    if (skipped) {
        int64_t held = 8 - skipped < count ? 8 - skipped : count;
        encipher(some, block++, k0, k1);
        for (int64_t i = 0; i < held; i++) words[i] = some[skipped + i];
        words += held;
        count -= held;
    }
    if (wide)
        for (; count >= 8 * MANY; count -= 8 * MANY, words += 8 * MANY, block += MANY)
            encipher_many(words, block, k0, k1);
    for (; count >= 8; count -= 8, words += 8) encipher(words, block++, k0, k1);
    if (count) {
        encipher(some, block, k0, k1);
        for (int64_t i = 0; i < count; i++) words[i] = some[i];
    }
}

/* Words of the elements of a box, counted inside it from `begin` on. */
INLINE void write_words(
    uint32_t *words, const uint64_t *key, const int64_t *firsts, int64_t length, int64_t begin, int64_t count,
    const int wide) {
    int64_t run = begin / length, inside = begin % length;
    while (count) {
        int64_t held = length - inside < count ? length - inside : count;
        write_run(words, (uint64_t)(firsts[run++] + inside), held, key[0], key[1], wide);
        words += held;
        count -= held;
        inside = 0;
    }
}

/* Values ------------------------------------------------------------------------------------------------------ */

INLINE float float_of(uint32_t bits) {
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

INLINE uint32_t bits_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return bits;
}

/* Bits of the two floats of a pair, as memory holds them. */
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define INTERCEPT 0
#define SLOPE 32
#else
#define INTERCEPT 32
#define SLOPE 0
#endif

/* `table` holds an intercept and a slope for the high 18 bits of every float. */
INLINE void write_values(
    held_float *restrict values, uint32_t *restrict words, int64_t count, const struct draw *draw,
    const float *restrict table) {
    float scale = draw->scale, shift = draw->shift, low = draw->low, high = draw->high;
    if (draw->uniform) {
        for (int64_t i = 0; i < count; i++) values[i] = (float)(int32_t)(words[i] >> 8) * 0x1p-24f;
    } else {
        if (draw->number >> 32 == 0) {
            uint64_t factor = draw->number;
            uint32_t first = draw->first;
            for (int64_t i = 0; i < count; i++) words[i] = first + (uint32_t)(words[i] * factor >> 32);
        }
        for (int64_t i = 0; i < count; i++) {
            float signed_word = (float)(int32_t)words[i];
            uint32_t segment = bits_of(signed_word) >> 14;
            uint64_t pair;
            memcpy(&pair, table + 2 * segment, 8);
            float product = float_of((uint32_t)(pair >> SLOPE)) * signed_word;
            values[i] = float_of((uint32_t)(pair >> INTERCEPT)) + product;
        }
    }
    for (int64_t i = 0; i < count; i++) {
        float value = values[i] * scale;
        value += shift;
        value = value < low ? low : value;
        values[i] = value > high ? high : value;
    }
}

/* Casts, to nearest and to even ------------------------------------------------------------------------------- */

INLINE uint16_t to_bfloat16(float value) {
    uint32_t bits = bits_of(value);
    uint32_t rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16;
    return value != value ? 0x7FC0 : (uint16_t)rounded;
}

INLINE float from_bfloat16(uint16_t bits) { return float_of((uint32_t)bits << 16); }

/* A sum with a power of two rounds at the last digit that a half has, also below its normal numbers. */
INLINE uint16_t to_float16(float value) {
    uint32_t bits = bits_of(value), twice = bits + bits, sign = bits & 0x80000000u;
    uint32_t exponent = twice & 0xFF000000u;
    float magnitude = float_of(bits & 0x7FFFFFFFu);
    float base = (magnitude * 0x1p+112f) * 0x1p-110f;
    exponent = exponent < 0x71000000u ? 0x71000000u : exponent;
    base = float_of((exponent >> 1) + 0x07800000u) + base;
    uint32_t sum = bits_of(base);
    uint32_t half = (sum >> 13 & 0x7C00u) + (sum & 0x0FFFu);
    return (uint16_t)(sign >> 16 | (twice > 0xFF000000u ? 0x7E00u : half));
}

INLINE float from_float16(uint16_t half) {
    uint32_t bits = (uint32_t)half << 16, twice = bits + bits, sign = bits & 0x80000000u;
    float normal = float_of((twice >> 4) + (0xE0u << 23)) * 0x1p-112f;
    float subnormal = float_of((twice >> 17) | (126u << 23)) - 0.5f;
    return float_of(sign | (twice < 1u << 27 ? bits_of(subnormal) : bits_of(normal)));
}

/* Write values as another dtype than float32; they become what is left of them. */
INLINE void store(void *out, int32_t dtype, held_float *values, int64_t count) {
    switch (dtype) {
    case FLOAT64:
        for (int64_t i = 0; i < count; i++) ((held_double *)out)[i] = values[i];
        break;
    case BFLOAT16:
        for (int64_t i = 0; i < count; i++) {
            uint16_t cast = to_bfloat16(values[i]);
            ((held_half *)out)[i] = cast;
            values[i] = from_bfloat16(cast);
        }
        break;
    case FLOAT16:
        for (int64_t i = 0; i < count; i++) {
            uint16_t cast = to_float16(values[i]);
            ((held_half *)out)[i] = cast;
            values[i] = from_float16(cast);
        }
        break;
    }
}

/* Moments ----------------------------------------------------------------------------------------------------- */

/* Of the elements by now: their number, mean and sum of squared deviations times powers of `scale`, their extremes. */
struct sums {
    double numel, mean, squares, low, high, scale, first;
    int32_t has_nan;
};

#define NOTHING(scale) {0, 0, 0, __builtin_inf(), -__builtin_inf(), scale, 0, 0}

/* Chan, Golub, LeVeque 1979: blocks are added one after another. */
INLINE void combine(
    struct sums *sums, double count, double mean, double squares, double low, double high, double first) {
    double numel = sums->numel + count, delta = mean - sums->mean;
    if (sums->numel == 0) {
        sums->mean = mean;
        sums->squares = squares;
        sums->first = first;
    } else {
        sums->mean += delta * (count / numel);
        sums->squares += squares + delta * delta * (sums->numel * count / numel);
    }
    sums->numel = numel;
    sums->low = low < sums->low ? low : sums->low;
    sums->high = high > sums->high ? high : sums->high;
}

/* One pass over deviations from the first element, which is one of them: so few digits are lost that squares keep 12
 * (Chan, Golub, LeVeque 1983). Element i goes to lane i % LANES, and halves of the lanes are laid onto halves. */
#define DEFINE_ADD(NAME, TYPE, HELD)                                                                                 \
    INLINE void NAME##_deal(                                                                                         \
        double *restrict sum, double *restrict square, TYPE *restrict low, TYPE *restrict high, const HELD *values,  \
        const int count, double scale, double first) {                                                               \
        for (int lane = 0; lane < count; lane++) {                                                                   \
            TYPE value = values[lane];                                                                               \
            double deviation = value * scale - first;                                                                \
            sum[lane] += deviation;                                                                                  \
            square[lane] += deviation * deviation;                                                                   \
            low[lane] = value < low[lane] ? value : low[lane];                                                       \
            high[lane] = value > high[lane] ? value : high[lane];                                                    \
        }                                                                                                            \
    }                                                                                                                \
    INLINE void NAME(struct sums *sums, const HELD *values, int64_t count) {                                         \
        double scale = sums->scale, first = values[0] * scale, sum[LANES], square[LANES];                            \
        TYPE low[LANES], high[LANES];                                                                                \
        int64_t done = 0;                                                                                            \
        first = first - first == 0 ? first : 0; /* infinite or no number */                                          \
        for (int lane = 0; lane < LANES; lane++) {                                                                   \
            sum[lane] = square[lane] = 0;                                                                            \
            low[lane] = high[lane] = values[0];                                                                      \
        }                                                                                                            \
        for (; done + LANES <= count; done += LANES)                                                                 \
            NAME##_deal(sum, square, low, high, values + done, LANES, scale, first);                                 \
        NAME##_deal(sum, square, low, high, values + done, (int)(count - done), scale, first);                       \
        for (int half = LANES / 2; half; half /= 2)                                                                  \
            for (int lane = 0; lane < half; lane++) {                                                                \
                sum[lane] += sum[lane + half];                                                                       \
                square[lane] += square[lane + half];                                                                 \
                low[lane] = low[lane] < low[lane + half] ? low[lane] : low[lane + half];                             \
                high[lane] = high[lane] > high[lane + half] ? high[lane] : high[lane + half];                        \
            }                                                                                                        \
        double mean = sum[0] / (double)count, squares = square[0] - sum[0] * mean;                                   \
        if (sum[0] != sum[0])                                                                                        \
            for (int64_t i = 0; i < count; i++) sums->has_nan |= values[i] != values[i];                             \
        combine(sums, (double)count, first + mean, squares, low[0], high[0], values[0]);                             \
    }

DEFINE_ADD(add_floats, float, held_float)
DEFINE_ADD(add_doubles, double, held_double)

INLINE void finish(const struct sums *sums, struct moments *out) {
    out->numel = (int64_t)sums->numel;
    out->mean = sums->mean / sums->scale;
    out->std = __builtin_sqrt(sums->squares / sums->numel) / sums->scale;
    out->min = sums->has_nan ? __builtin_nan("") : sums->low + 0.0;
    out->max = sums->has_nan ? __builtin_nan("") : sums->high + 0.0;
    if (sums->low == sums->high && !sums->has_nan) {
        out->mean = sums->first;
        out->std = 0.0;
    }
}

/* A power of two that keeps the squares of doubles from being infinite or 0. */
INLINE double scale_of(const held_double *values, int64_t count) {
    double largest = 0.0;
    for (int64_t i = 0; i < count; i++) {
        double size = values[i] < 0 ? -values[i] : values[i];
        largest = size > largest ? size : largest;
    }
    if ((1e-120 < largest && largest < 1e120) || largest == 0 || largest == __builtin_inf()) return 1.0;
    return largest < 1 ? 0x1p+600 : 0x1p-600;
}

/* Stretches and tensors ---------------------------------------------------------------------------------------- */

#define FILL_ARGUMENTS                                                                                               \
    int64_t tensors, void *const *outs, int32_t dtype, const struct draw *draws, const float *table,                 \
        const uint64_t *keys, const int64_t *firsts, int64_t length, int64_t begin, int64_t count,                   \
        struct moments *measured

INLINE void fill_tensors(FILL_ARGUMENTS, const int wide) {
    static const int64_t SIZES[] = {4, 8, 2, 2};
    uint32_t words[BLOCK];
    float other[BLOCK];
    for (int64_t tensor = 0; tensor < tensors; tensor++) {
        struct sums sums = NOTHING(1.0);
        for (int64_t done = 0; done < count; done += BLOCK) {
            int64_t held = count - done < BLOCK ? count - done : BLOCK;
            void *out = (char *)outs[tensor] + done * SIZES[dtype];
            held_float *values = dtype == FLOAT32 ? out : other;
            write_words(words, keys + 2 * tensor, firsts, length, begin + done, held, wide);
            write_values(values, words, held, draws + tensor, table);
            store(out, dtype, values, held);
            if (measured) add_floats(&sums, values, held);
        }
        if (measured) finish(&sums, measured + tensor);
    }
}

#define MEASURE_ARGUMENTS                                                                                            \
    int64_t tensors, const void *const *held, int32_t dtype, int64_t count, struct moments *measured

INLINE void measure_tensors(MEASURE_ARGUMENTS) {
    float values[BLOCK];
    for (int64_t tensor = 0; tensor < tensors; tensor++) {
        const held_half *halves = held[tensor];
        struct sums sums = NOTHING(dtype == FLOAT64 ? scale_of(held[tensor], count) : 1.0);
        for (int64_t done = 0; done < count; done += BLOCK) {
            int64_t some = count - done < BLOCK ? count - done : BLOCK;
            switch (dtype) {
            case FLOAT32:
                add_floats(&sums, (const held_float *)held[tensor] + done, some);
                continue;
            case FLOAT64:
                add_doubles(&sums, (const held_double *)held[tensor] + done, some);
                continue;
            case BFLOAT16:
                for (int64_t i = 0; i < some; i++) values[i] = from_bfloat16(halves[done + i]);
                break;
            case FLOAT16:
                for (int64_t i = 0; i < some; i++) values[i] = from_float16(halves[done + i]);
                break;
            }
            add_floats(&sums, values, some);
        }
        finish(&sums, measured + tensor);
    }
}

#define DEFINE_VERSION(NAME, TARGET, WIDE)                                                                            \
    TARGET static void fill_##NAME(FILL_ARGUMENTS) {                                                                 \
        fill_tensors(tensors, outs, dtype, draws, table, keys, firsts, length, begin, count, measured, WIDE);        \
    }                                                                                                                \
    TARGET static void measure_##NAME(MEASURE_ARGUMENTS) { measure_tensors(tensors, held, dtype, count, measured); }

DEFINE_VERSION(plain, , 0)

#if defined(__x86_64__)
DEFINE_VERSION(avx2, AVX2, 0)
DEFINE_VERSION(avx512, AVX512, 1)

/* Compilers' own functions for that are not whole in all of their libraries. */
static int32_t found_level(void) {
    const uint32_t avx512 = bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL, avx2 = bit_AVX2 | bit_BMI2;
    uint32_t a, b, c, d, saved, high;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE)) return 0;
    __asm__("xgetbv" : "=a"(saved), "=d"(high) : "c"(0));
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (saved & 0x06) != 0x06 || (b & avx2) != avx2) return 0;
    return (saved & 0xE6) == 0xE6 && (b & avx512) == avx512 ? 2 : 1;
}

int32_t level(void) {
    static int32_t known = -1; /* whoever comes first asks; all are given the same answer */
    if (known < 0) known = found_level();
    return known;
}

#endif

/* What is exported ---------------------------------------------------------------------------------------------- */

EXPORT int32_t abi(void) { return ABI; }

/* Say which instructions are made use of: 1 for AVX2, 2 for AVX-512, 0 for none that need asking for. */
EXPORT int32_t instructions(void) {
#if defined(__x86_64__)
    return level();
#else
    return 0;
#endif
}

/* Fill stretches of tensors that are alike: elements `begin` to `begin + count` of a box, whose runs of `length`
 * elements begin at `firsts`, from the stream of each tensor's key as its draw says. `measured` is NULL or takes the
 * moments of each. */
EXPORT void fill(FILL_ARGUMENTS) {
    CHOOSE(fill, tensors, outs, dtype, draws, table, keys, firsts, length, begin, count, measured)
}

/* Measure tensors that are alike. */
EXPORT void measure(MEASURE_ARGUMENTS) { CHOOSE(measure, tensors, held, dtype, count, measured) }
