/* The steps of qr.c for one kind of processor, included for each: LEVEL names it, TARGET is its attribute, WIDTH the
 * number of doubles in its vectors; a tile has TILE_ROWS rows of TILE_VECTORS vectors. Matrices are rows of a strip. */

#define VECTOR NAME(vector)
#define VECTORS (PANEL / WIDTH)
#define LINE(ADDRESS, I) (*(VECTOR *)((ADDRESS) + (I) * WIDTH))

typedef double VECTOR __attribute__((vector_size(8 * WIDTH), aligned(8), may_alias));

/* Inner products ----------------------------------------------------------------------------------------------- */

/* Add some rows' part of Vᵀ·C to a tile. Meanwhile lines that are needed soon are fetched. */
TARGET INLINE void NAME(add_to_tile)(
    double *tile, const double *v, const double *c, int64_t rows, const double *soon) {
    VECTOR sums[TILE_ROWS][TILE_VECTORS];
    EACH(i, TILE_ROWS) EACH(j, TILE_VECTORS) sums[i][j] = LINE(tile + i * PANEL, j);
    for (int64_t r = 0; r < rows; r++, v += PANEL, c += PANEL, soon += PANEL) {
        VECTOR line[TILE_VECTORS];
        __builtin_prefetch(soon);
        EACH(j, TILE_VECTORS) line[j] = LINE((double *)c, j);
        EACH(i, TILE_ROWS) EACH(j, TILE_VECTORS) sums[i][j] += v[i] * line[j];
    }
    EACH(i, TILE_ROWS) EACH(j, TILE_VECTORS) LINE(tile + i * PANEL, j) = sums[i][j];
}

/* W = Vᵀ·C. */
TARGET static void NAME(multiply)(double *w, const double *v, const double *c, int64_t rows) {
    memset(w, 0, 8 * PANEL * PANEL);
    for (int64_t done = 0; done < rows; done += DEPTH, v += DEPTH * PANEL, c += DEPTH * PANEL) {
        int64_t held = rows - done < DEPTH ? rows - done : DEPTH, tile = 0;
        for (int64_t j = 0; j < PANEL; j += TILE_VECTORS * WIDTH)
            for (int64_t i = 0; i < PANEL; i += TILE_ROWS, tile++) {
                const double *soon = (tile % 2 ? c : v) + DEPTH * PANEL + tile / 2 % 4 * 8;
                NAME(add_to_tile)(w + i * PANEL + j, v + i, c + j, held, soon);
            }
    }
}

/* Subtraction -------------------------------------------------------------------------------------------------- */

#define DEFINE_SUBTRACT(FUNCTION, HEIGHT)                                                                            \
    TARGET INLINE void FUNCTION(double *c, const double *v, double *w) {                                             \
        VECTOR rest[HEIGHT][TILE_VECTORS];                                                                           \
        EACH(i, HEIGHT) EACH(j, TILE_VECTORS) rest[i][j] = LINE(c + i * PANEL, j);                                   \
        for (int64_t k = 0; k < PANEL; k++, w += PANEL) {                                                            \
            VECTOR line[TILE_VECTORS];                                                                               \
            EACH(j, TILE_VECTORS) line[j] = LINE(w, j);                                                              \
            EACH(i, HEIGHT) EACH(j, TILE_VECTORS) rest[i][j] -= v[i * PANEL + k] * line[j];                          \
        }                                                                                                            \
        EACH(i, HEIGHT) EACH(j, TILE_VECTORS) LINE(c + i * PANEL, j) = rest[i][j];                                   \
    }

DEFINE_SUBTRACT(NAME(subtract_from_tile), TILE_ROWS)
DEFINE_SUBTRACT(NAME(subtract_from_row), 1)

/* C -= V·W. */
TARGET static void NAME(subtract)(double *c, const double *v, double *w, int64_t rows) {
    for (int64_t done = 0; done < rows; done += DEPTH) {
        int64_t stop = rows - done < DEPTH ? rows : done + DEPTH;
        for (int64_t j = 0; j < PANEL; j += TILE_VECTORS * WIDTH) {
            int64_t r = done;
            for (; r + TILE_ROWS <= stop; r += TILE_ROWS)
                NAME(subtract_from_tile)(c + r * PANEL + j, v + r * PANEL, w + j);
            for (; r < stop; r++) NAME(subtract_from_row)(c + r * PANEL + j, v + r * PANEL, w + j);
        }
    }
}

/* Reflections -------------------------------------------------------------------------------------------------- */

/* W = T·W, or Tᵀ·W from the first row on: the inverse of T has ones on its diagonal, and the inner products of vectors
 * above it. */
TARGET static void NAME(solve)(double *w, const double *gram, int32_t transposed) {
    for (int64_t step = 0; step < PANEL; step++) {
        int64_t i = transposed ? step : PANEL - 1 - step;
        VECTOR rest[VECTORS];
        EACH(j, VECTORS) rest[j] = LINE(w + i * PANEL, j);
        for (int64_t before = 0; before < step; before++) {
            int64_t k = transposed ? before : PANEL - 1 - before;
            double factor = transposed ? gram[k * PANEL + i] : gram[i * PANEL + k];
            EACH(j, VECTORS) rest[j] -= factor * LINE(w + k * PANEL, j);
        }
        EACH(j, VECTORS) LINE(w + i * PANEL, j) = rest[j];
    }
}

/* Replace columns by the vectors of the reflections that reduce them, one by one. A row is reflected and at once added
 * to the inner products of the next column with all others. */
TARGET static void NAME(find_vectors)(double *v, int64_t rows, int64_t columns, double *gram, double *signs) {
    VECTOR sums[VECTORS], products[VECTORS], scales[VECTORS];
    double dots[PANEL], own[PANEL];
    EACH(i, VECTORS) sums[i] = (VECTOR){0};
    for (int64_t r = 0; r < rows; r++) EACH(i, VECTORS) sums[i] += v[r * PANEL] * LINE(v + r * PANEL, i);
    for (int64_t j = 0; j < columns; j++) {
        double *first = v + j * PANEL, head = first[j], shift = 0, scale = 0;
        memcpy(dots, sums, sizeof dots);
        double norm = __builtin_sqrt(dots[j]);
        if (norm > 0) {
            shift = head < 0 ? -norm : norm;
            scale = 1 / __builtin_sqrt(norm * (norm + (head < 0 ? -head : head)));
            signs[j] = head < 0 ? 1 : -1;
        }
        for (int64_t c = 0; c < PANEL; c++) dots[c] = scale * (dots[c] + shift * first[c]);
        for (int64_t k = 0; k < j; k++) gram[k * PANEL + j] = dots[k];
        memset(dots, 0, 8 * (size_t)(j + 1));
        memcpy(products, dots, sizeof dots);
        for (int64_t c = 0; c < PANEL; c++) own[c] = c == j ? scale : 1;
        memcpy(scales, own, sizeof own);
        first[j] += shift;
        EACH(i, VECTORS) sums[i] = (VECTOR){0};
        int64_t next = j + 1 < PANEL ? j + 1 : j;
        for (int64_t r = j; r < rows; r++) {
            double *row = v + r * PANEL, element = row[j] * scale;
            VECTOR line[VECTORS];
            EACH(i, VECTORS) LINE(row, i) = line[i] = LINE(row, i) * scales[i] - element * products[i];
            double other = r > j ? row[next] : 0;
            EACH(i, VECTORS) sums[i] += other * line[i];
        }
    }
    for (int64_t r = 0; r < rows && r < PANEL; r++)
        for (int64_t c = r + 1; c < PANEL; c++) v[r * PANEL + c] = 0;
}

TARGET static void NAME(reduce)(
    double *strips, int64_t rows, int64_t columns, int64_t panel, double *gram, double *signs) {
    double w[PANEL * PANEL] __attribute__((aligned(64)));
    int64_t start = panel * PANEL, held = columns - start < PANEL ? columns - start : PANEL;
    double *v = strips + (panel * rows + start) * PANEL;
    NAME(find_vectors)(v, rows - start, held, gram, signs);
    for (int64_t other = panel + 1; other * PANEL < columns; other++) {
        double *c = strips + (other * rows + start) * PANEL;
        NAME(multiply)(w, v, c, rows - start);
        NAME(solve)(w, gram, 1);
        NAME(subtract)(c, v, w, rows - start);
    }
}

/* Of strips after this one, the first rows are 0 by now. */
TARGET static void NAME(form)(
    double *strips, int64_t rows, int64_t columns, int64_t panel, const double *gram, const double *signs) {
    double w[PANEL * PANEL] __attribute__((aligned(64))), some[TILE_ROWS * PANEL] __attribute__((aligned(64)));
    int64_t start = panel * PANEL, held = columns - start < PANEL ? columns - start : PANEL;
    double *v = strips + (panel * rows + start) * PANEL;
    for (int64_t other = panel + 1; other * PANEL < columns; other++) {
        double *c = strips + (other * rows + start) * PANEL;
        memset(c, 0, 8 * PANEL * PANEL);
        NAME(multiply)(w, v + PANEL * PANEL, c + PANEL * PANEL, rows - start - PANEL);
        NAME(solve)(w, gram, 0);
        NAME(subtract)(c, v, w, rows - start);
    }
    memset(w, 0, sizeof w);
    for (int64_t k = 0; k < held; k++)
        for (int64_t c = 0; c < held; c++) w[k * PANEL + c] = v[c * PANEL + k] * signs[c] + 0.0;
    NAME(solve)(w, gram, 0);
    for (int64_t r = 0; r < rows - start; r += TILE_ROWS) {
        int64_t height = rows - start - r < TILE_ROWS ? rows - start - r : TILE_ROWS;
        double *c = v + r * PANEL;
        memcpy(some, c, 8 * PANEL * (size_t)height);
        memset(c, 0, 8 * PANEL * (size_t)height);
        for (int64_t i = 0; i < height && r + i < held; i++) c[i * PANEL + r + i] = signs[r + i];
        NAME(subtract)(c, some, w, height);
    }
}

#undef VECTOR
#undef VECTORS
#undef LINE
#undef DEFINE_SUBTRACT
#undef LEVEL
#undef TARGET
#undef WIDTH
#undef TILE_ROWS
#undef TILE_VECTORS
