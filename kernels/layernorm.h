/* layernorm: what the kernels of layernorm.cu and their launcher agree on.
   x, y, dy, dx [R, C] f32 or bf16 · w, b, dw, db [C], mean, rstd [R] f32 · partial [2, ceil(R / tile), C] f32 */
#ifndef SIDRA_LAYERNORM_H
#define SIDRA_LAYERNORM_H
#include <stdint.h>

typedef struct LayernormParams {
  uint32_t rows;  /* R */
  uint32_t width; /* C */
  float eps;      /* added to the variance */
  uint32_t add;   /* backward: dx += where not 0 */
  uint32_t lanes; /* lanes of a warp that share a row: a power of two, 4 to 32; part of the bits */
  uint32_t tile;  /* backward: rows whose share of dw and db one block sums, 1 to LAYERNORM_TILE */
} LayernormParams;

enum LayernormTiles {
  LAYERNORM_THREADS = 256, /* of a block, forward and backward */
  LAYERNORM_TILE = 256,    /* most rows of a tile */
  LAYERNORM_FOLD = 16      /* threads that share a column in the second pass for dw and db */
};
#endif
