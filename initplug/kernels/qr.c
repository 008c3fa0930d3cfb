/* Q of a QR decomposition, as qr_reference.py defines it, to the bit.
 *
 * Every sum is made term by term, in the order of rows or of vectors. What is computed at a time, in vectors and in tiles
 * that registers hold, are different elements, so that neither the width of vectors nor the size of tiles changes a bit.
 * As in kernel.c nothing is fused, no state is kept and no thread is started.
 */

#include "kernel.h"

#define PANEL 32 /* columns of a strip, which are reflected together: part of the format */
#define DEPTH 48 /* rows that are gone through at a time: those of two strips lie in the first-level cache */

#define JOIN(A, B) A##_##B
#define EXPAND(A, B) JOIN(A, B)
#define NAME(FUNCTION) EXPAND(FUNCTION, LEVEL)

/* A loop that is written out: what it runs over is in registers. */
#define EACH(I, COUNT) _Pragma("GCC unroll 32") for (int I = 0; I < (COUNT); I++)

#define LEVEL plain
#define TARGET
#define WIDTH 2 /* doubles of a vector */
#define TILE_ROWS 4
#define TILE_VECTORS 2
#include "qr_steps.h"

#if defined(__x86_64__)
#define LEVEL avx2
#define TARGET AVX2
#define WIDTH 4
#define TILE_ROWS 4
#define TILE_VECTORS 2
#include "qr_steps.h"

#define LEVEL avx512
#define TARGET AVX512
#define WIDTH 8
#define TILE_ROWS 16
#define TILE_VECTORS 1
#include "qr_steps.h"
#endif

/* What is exported ---------------------------------------------------------------------------------------------- */

/* Do one of the steps, of which there are two for each strip: one after another, its columns become vectors of
 * reflections, and the strips after it are reflected; then from the last strip on, its vectors become columns of Q, and
 * those of the strips after it are reflected. `grams` begins with zeros and `signs` with ones, for all strips. */
EXPORT void orthonormalize(
    double *strips, double *grams, double *signs, int64_t rows, int64_t columns, int64_t step) {
    int64_t panels = (columns + PANEL - 1) / PANEL, panel = step < panels ? step : 2 * panels - 1 - step;
    double *gram = grams + panel * PANEL * PANEL, *own = signs + panel * PANEL;
    if (step < panels) {
        CHOOSE(reduce, strips, rows, columns, panel, gram, own)
    } else {
        CHOOSE(form, strips, rows, columns, panel, gram, own)
    }
}
