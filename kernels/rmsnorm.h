/* rmsnorm: what the kernels of rmsnorm.cu and their launcher agree on.
   x, y, dy, dx [R, C] f32 or bf16 · w, dw [C] f32 · rstd [R] f32 · partial [ceil(R / tile), C] f32 */
#ifndef SIDRA_RMSNORM_H
#define SIDRA_RMSNORM_H
#include <stdint.h>

typedef struct RmsnormParams {
  uint32_t rows;  /* R */
  uint32_t width; /* C */
  float eps;      /* added to the mean square */
  uint32_t add;   /* backward: dx += where not 0 */
  uint32_t lanes; /* lanes of a warp that share a row: a power of two, 4 to 32; part of the bits */
  uint32_t tile;  /* backward: rows whose share of dw one block sums, 1 to RMSNORM_TILE; part of the bits */
} RmsnormParams;

enum RmsnormTiles {
  RMSNORM_THREADS = 256, /* of a block, forward and backward */
  RMSNORM_TILE = 256,    /* most rows of a tile */
  RMSNORM_FOLD = 16      /* threads that share a column in the second pass for dw */
};
#endif
