/* The streams of version 1 and moments, as reference.py defines them, to the bit.
 *
 * Compiled with -ffp-contract=off: a multiply-add that is fused rounds once where two steps round twice. Nothing of
 * libm is called. No state is kept and no thread is started: calls may run beside each other, and in forked processes.
 */

#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#if defined(_WIN32)
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif

#define INLINE static inline __attribute__((always_inline))

#define ABI 2
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

/* Words ------------------------------------------------------------------------------------------------------- */

/* Philox4x64-10, Salmon et al. 2011: the eight 32-bit words of a block. */
INLINE void encipher(uint32_t *words, uint64_t block, uint64_t k0, uint64_t k1) {
    uint64_t a = block, b = 0, c = 0, d = 0;
    for (int round = 0; round < 10; round++) {
        unsigned __int128 first = (unsigned __int128)0xD2E7470EE14C6C93u * a;
        unsigned __int128 second = (unsigned __int128)0xCA5A826395121157u * c;
        a = (uint64_t)(second >> 64) ^ b ^ k0;
        b = (uint64_t)second;
        c = (uint64_t)(first >> 64) ^ d ^ k1;
        d = (uint64_t)first;
        k0 += 0x9E3779B97F4A7C15u;
        k1 += 0xBB67AE8584CAA73Bu;
    }
    uint64_t quads[4] = {a, b, c, d};
    for (int i = 0; i < 4; i++) {
        words[2 * i] = (uint32_t)quads[i];
        words[2 * i + 1] = (uint32_t)(quads[i] >> 32);
    }
}

/* Words `start` to `start + count` of a stream. */
INLINE void write_run(uint32_t *words, uint64_t start, int64_t count, uint64_t k0, uint64_t k1) {
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
    for (; count >= 8; count -= 8, words += 8) encipher(words, block++, k0, k1);
    if (count) {
        encipher(some, block, k0, k1);
        for (int64_t i = 0; i < count; i++) words[i] = some[i];
    }
}

/* Words of the elements of a box, counted inside it from `begin` on. */
INLINE void write_words(
    uint32_t *words, const uint64_t *key, const int64_t *firsts, int64_t length, int64_t begin, int64_t count) {
    int64_t run = begin / length, inside = begin % length;
    while (count) {
        int64_t held = length - inside < count ? length - inside : count;
        write_run(words, (uint64_t)(firsts[run++] + inside), held, key[0], key[1]);
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
            float product = table[2 * segment + 1] * signed_word;
            values[i] = table[2 * segment] + product;
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

/* Sums, and extremes, are made by laying halves onto halves, which needs no order but this one. */
INLINE double folded(double *sums, int64_t half) {
    while (half /= 2)
        for (int64_t i = 0; i < half; i++) sums[i] += sums[i + half];
    return sums[0];
}

#define DEFINE_ADD(NAME, TYPE, HELD)                                                                                 \
    INLINE void NAME(struct sums *sums, const HELD *values, int64_t count) {                                         \
        double sum[BLOCK / 2], scale = sums->scale;                                                                  \
        TYPE low[BLOCK / 2], high[BLOCK / 2];                                                                        \
        int64_t half = 1, both;                                                                                      \
        while (2 * half < count) half *= 2;                                                                          \
        both = count - half > 0 ? count - half : 0;                                                                  \
        for (int64_t i = 0; i < both; i++) {                                                                         \
            TYPE one = values[i], other = values[i + half];                                                          \
            low[i] = one < other ? one : other;                                                                      \
            high[i] = one > other ? one : other;                                                                     \
            sum[i] = one * scale + other * scale;                                                                    \
        }                                                                                                            \
        for (int64_t i = both; i < half; i++) {                                                                      \
            low[i] = high[i] = values[i];                                                                            \
            sum[i] = values[i] * scale + 0.0;                                                                        \
        }                                                                                                            \
        for (int64_t rest = half / 2; rest; rest /= 2)                                                               \
            for (int64_t i = 0; i < rest; i++) {                                                                     \
                low[i] = low[i] < low[i + rest] ? low[i] : low[i + rest];                                            \
                high[i] = high[i] > high[i + rest] ? high[i] : high[i + rest];                                       \
            }                                                                                                        \
        double total = folded(sum, half), mean = total / (double)count, squares = 0;                                 \
        if (total != total)                                                                                          \
            for (int64_t i = 0; i < count; i++) sums->has_nan |= values[i] != values[i];                             \
        if (low[0] == high[0] && total == total) {                                                                   \
            mean = low[0] * scale;                                                                                   \
        } else {                                                                                                     \
            for (int64_t i = 0; i < both; i++) {                                                                     \
                double one = values[i] * scale - mean, other = values[i + half] * scale - mean;                      \
                sum[i] = one * one + other * other;                                                                  \
            }                                                                                                        \
            for (int64_t i = both; i < half; i++) {                                                                  \
                double one = values[i] * scale - mean;                                                               \
                sum[i] = one * one;                                                                                  \
            }                                                                                                        \
            squares = folded(sum, half);                                                                             \
        }                                                                                                            \
        combine(sums, (double)count, mean, squares, low[0], high[0], values[0]);                                     \
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

INLINE void fill_tensors(FILL_ARGUMENTS) {
    static const int64_t SIZES[] = {4, 8, 2, 2};
    uint32_t words[BLOCK];
    float other[BLOCK];
    for (int64_t tensor = 0; tensor < tensors; tensor++) {
        struct sums sums = NOTHING(1.0);
        for (int64_t done = 0; done < count; done += BLOCK) {
            int64_t held = count - done < BLOCK ? count - done : BLOCK;
            void *out = (char *)outs[tensor] + done * SIZES[dtype];
            held_float *values = dtype == FLOAT32 ? out : other;
            write_words(words, keys + 2 * tensor, firsts, length, begin + done, held);
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

/* One version for each kind of processor, of the same bits. */
#define DEFINE_VERSION(NAME, TARGET)                                                                                 \
    TARGET static void fill_##NAME(FILL_ARGUMENTS) {                                                                 \
        fill_tensors(tensors, outs, dtype, draws, table, keys, firsts, length, begin, count, measured);              \
    }                                                                                                                \
    TARGET static void measure_##NAME(MEASURE_ARGUMENTS) { measure_tensors(tensors, held, dtype, count, measured); }

DEFINE_VERSION(plain, )

#if defined(__x86_64__)
DEFINE_VERSION(avx2, __attribute__((target("avx2,bmi2"))))
DEFINE_VERSION(avx512, __attribute__((target("avx2,bmi2,avx512f,avx512bw,avx512dq,avx512vl"))))

/* What processor and system have: 2 for AVX-512, 1 for AVX2, else 0. Compilers' own functions for that are not whole in
 * all of their libraries. */
static int32_t found_level(void) {
    const uint32_t avx512 = bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL, avx2 = bit_AVX2 | bit_BMI2;
    uint32_t a, b, c, d, saved, high;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE)) return 0;
    __asm__("xgetbv" : "=a"(saved), "=d"(high) : "c"(0));
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (saved & 0x06) != 0x06 || (b & avx2) != avx2) return 0;
    return (saved & 0xE6) == 0xE6 && (b & avx512) == avx512 ? 2 : 1;
}

static int32_t level(void) {
    static int32_t known = -1; /* whoever comes first asks; all are given the same answer */
    if (known < 0) known = found_level();
    return known;
}

#define CHOOSE(NAME, ...)                                                                                            \
    switch (level()) {                                                                                               \
    case 2: NAME##_avx512(__VA_ARGS__); break;                                                                       \
    case 1: NAME##_avx2(__VA_ARGS__); break;                                                                         \
    default: NAME##_plain(__VA_ARGS__);                                                                              \
    }
#else
#define CHOOSE(NAME, ...) NAME##_plain(__VA_ARGS__);
#endif

/* What is exported ---------------------------------------------------------------------------------------------- */

EXPORT int32_t abi(void) { return ABI; }

/* Fill stretches of tensors that are alike: elements `begin` to `begin + count` of a box, whose runs of `length`
 * elements begin at `firsts`, from the stream of each tensor's key as its draw says. `measured` is NULL or takes the
 * moments of each. */
EXPORT void fill(FILL_ARGUMENTS) {
    CHOOSE(fill, tensors, outs, dtype, draws, table, keys, firsts, length, begin, count, measured)
}

/* Measure tensors that are alike. */
EXPORT void measure(MEASURE_ARGUMENTS) { CHOOSE(measure, tensors, held, dtype, count, measured) }
