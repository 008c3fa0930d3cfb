/* What the sources of the native kernel share. */

#ifndef KERNEL_H
#define KERNEL_H

#include <stdint.h>
#include <string.h>

#if defined(_WIN32)
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif

#define INLINE static inline __attribute__((always_inline))

/* Every function has a version for each kind of processor, of the same bits. */
#if defined(__x86_64__)
#define AVX2 __attribute__((target("avx2,bmi2")))
#define AVX512 __attribute__((target("avx2,bmi2,avx512f,avx512bw,avx512dq,avx512vl")))

/* What processor and system have: 2 for AVX-512, 1 for AVX2, else 0. */
int32_t level(void);

#define CHOOSE(NAME, ...)                                                                                            \
    switch (level()) {                                                                                               \
    case 2: NAME##_avx512(__VA_ARGS__); break;                                                                       \
    case 1: NAME##_avx2(__VA_ARGS__); break;                                                                         \
    default: NAME##_plain(__VA_ARGS__);                                                                              \
    }
#else
#define CHOOSE(NAME, ...) NAME##_plain(__VA_ARGS__);
#endif

#endif
