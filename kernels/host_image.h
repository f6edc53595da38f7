// A sampled tensor to a picture, a part of host.c: the same bits as numpy's form, which is pidsampler/image/pixels.py,
// and pidsampler/image/despeckle.py, which says what a speck is.
#define PID_BRIM 4
#define PID_TILE_ROWS 32
#define PID_TILE_COLUMNS 256
#define PID_STRIDE (PID_TILE_COLUMNS + 2 * PID_BRIM)
#define PID_TILE (PID_STRIDE * (PID_TILE_ROWS + 2 * PID_BRIM))
_Static_assert(6 * PID_TILE <= PID_SCRATCH, "five tiles, and one of three bytes a pixel");

// v*127.5 + 127.5, clamped and rounded to even: adding 1.5 * 2^23 leaves no fraction.
static inline uint8_t pid_level(float v) {
    float level = v * 127.5f + 127.5f;
    level = level < 0.0f ? 0.0f : level;
    level = level > 255.0f ? 255.0f : level;
    return (uint8_t)(int32_t)((level + 0x1.8p+23f) - 0x1.8p+23f);
}

static inline int pid_finite(const float *v, uint64_t n) {
    uint32_t most = 0;
    for (uint64_t i = 0; i < n; ++i) {
        uint32_t bits;
        memcpy(&bits, v + i, sizeof(bits));
        bits &= 0x7FFFFFFFu;
        most = most > bits ? most : bits;
    }
    return most < 0x7F800000u;
}

static inline void pid_interleave(uint8_t *restrict out, const uint8_t *r, const uint8_t *g, const uint8_t *b,
                                  uint64_t n) {
    for (uint64_t i = 0; i < n; ++i) {
        out[3 * i] = r[i];
        out[3 * i + 1] = g[i];
        out[3 * i + 2] = b[i];
    }
}

#define PID_LEAST(a, b) ((a) < (b) ? (a) : (b))

static inline float pid_pick(int most, float a, float b) { return most ? (a > b ? a : b) : (a < b ? a : b); }

// What each value of a tile must stand out above (`most`, a constant to the compiler, is 1), or below (0). `v` and
// `out` have their surroundings, and those of `out` mean nothing. Outside the picture all is infinite: no pick.
__attribute__((always_inline)) static inline void pid_standing(int most, float *restrict out, const float *restrict v,
                                                               float *restrict line) {
    const int64_t s = PID_STRIDE, first = PID_BRIM * (s + 1), end = PID_TILE - first, steps[] = {1, s, s + 1, s - 1};
    for (int64_t i = first; i < end; ++i) out[i] = v[i - first];
    for (int along = 0; along < 2; ++along) {  // the brim: nine in a row, nine in a column
        const int64_t o = steps[along], other = PID_BRIM * steps[1 - along];
        for (int64_t i = 4 * o; i < PID_TILE - 4 * o; ++i) {
            float found = v[i];
            for (int64_t k = 1; k <= PID_BRIM; ++k)
                found = pid_pick(most, found, pid_pick(most, v[i - k * o], v[i + k * o]));
            line[i] = found;
        }
        for (int64_t i = first; i < end; ++i)
            out[i] = pid_pick(most, out[i], pid_pick(most, line[i - other], line[i + other]));
    }
    for (int along = 0; along < 4; ++along) {  // runs
        const int64_t o = steps[along];
        for (int64_t i = 0; i < PID_TILE - 4 * o; ++i) {
            const float a = pid_pick(!most, v[i], v[i + o]), b = pid_pick(!most, v[i + 2 * o], v[i + 3 * o]);
            line[i] = pid_pick(!most, pid_pick(!most, a, b), v[i + 4 * o]);
        }
        for (int64_t i = first; i < end; ++i) {
            const float a = pid_pick(most, line[i - 4 * o], line[i - 3 * o]);
            const float b = pid_pick(most, line[i - 2 * o], line[i - o]);
            out[i] = pid_pick(most, pid_pick(most, out[i], line[i]), pid_pick(most, a, b));
        }
    }
}

// The tile of a plane at (top, left) with its surroundings, clamped; `outside` where there is no picture.
static void pid_cut(float *tile, const PidImage *image, const float *plane, int64_t top, int64_t left, float outside) {
    const int64_t height = (int64_t)image->height, width = (int64_t)image->width;
    const int64_t from = left < PID_BRIM ? PID_BRIM - left : 0;
    const int64_t to = width - left + PID_BRIM < PID_STRIDE ? width - left + PID_BRIM : PID_STRIDE;
    for (int64_t y = 0; y < PID_TILE_ROWS + 2 * PID_BRIM; ++y, tile += PID_STRIDE) {
        const int64_t row = top + y - PID_BRIM;
        const int inside = row >= 0 && row < height;
        const float *v = plane + (inside ? row : 0) * (int64_t)image->row + left - PID_BRIM;
        for (int64_t i = 0; i < PID_STRIDE; ++i) tile[i] = outside;
        for (int64_t i = inside ? from : to; i < to; ++i) {
            const float low = v[i] < -1.0f ? -1.0f : v[i];
            tile[i] = low > 1.0f ? 1.0f : low;
        }
    }
}

static void pid_despeckle(const PidImage *image, uint64_t top, uint64_t bottom, float *scratch) {
    float *high_v = scratch, *low_v = scratch + PID_TILE, *line = scratch + 2 * PID_TILE;
    float *high = scratch + 3 * PID_TILE, *low = scratch + 4 * PID_TILE;
    uint8_t *levels = (uint8_t *)(scratch + 5 * PID_TILE);  // three planes
    for (; top < bottom; top += PID_TILE_ROWS)
        for (uint64_t left = 0; left < image->width; left += PID_TILE_COLUMNS) {
            for (int c = 0; c < 3; ++c) {
                const float *plane = image->x + c * image->plane, limit = image->limit;
                uint8_t *to = levels + c * PID_TILE;
                pid_cut(high_v, image, plane, (int64_t)top, (int64_t)left, -HUGE_VALF);
                pid_cut(low_v, image, plane, (int64_t)top, (int64_t)left, HUGE_VALF);
                pid_standing(1, high, high_v, line);
                pid_standing(0, low, low_v, line);
                for (int64_t i = PID_BRIM * (PID_STRIDE + 1); i < PID_TILE - PID_BRIM * (PID_STRIDE + 1); ++i) {
                    const float v = high_v[i], above = v > high[i] + limit ? high[i] : v;
                    to[i] = pid_level(v < low[i] - limit ? low[i] : above);
                }
            }
            const uint64_t columns = PID_LEAST(image->width - left, PID_TILE_COLUMNS);
            for (uint64_t y = top; y < PID_LEAST(bottom, top + PID_TILE_ROWS); ++y) {
                const uint8_t *row = levels + (y - top + PID_BRIM) * PID_STRIDE + PID_BRIM;
                uint8_t *out = image->out + 3 * (y * image->width + left);
                pid_interleave(out, row, row + PID_TILE, row + 2 * PID_TILE, columns);
            }
        }
}

// Rows top .. bottom - 1 of a picture; returns 0 where one is not finite. `scratch` is null where specks stay.
PID_IMAGE(PID_NAME(pid_image_)) {
    uint8_t levels[3][PID_TILE_COLUMNS];
    for (uint64_t y = top; y < bottom; ++y) {
        const float *row = image->x + y * image->row;
        for (int c = 0; c < 3; ++c)
            if (!pid_finite(row + c * image->plane, image->width)) return 0;
        for (uint64_t left = 0; !scratch && left < image->width; left += PID_TILE_COLUMNS) {
            const uint64_t n = PID_LEAST(image->width - left, PID_TILE_COLUMNS);
            for (int c = 0; c < 3; ++c)
                for (uint64_t i = 0; i < n; ++i) levels[c][i] = pid_level(row[c * image->plane + left + i]);
            pid_interleave(image->out + 3 * (y * image->width + left), levels[0], levels[1], levels[2], n);
        }
    }
    if (scratch) pid_despeckle(image, top, bottom, scratch);
    return 1;
}
