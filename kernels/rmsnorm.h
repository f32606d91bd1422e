/* rmsnorm: what the kernels of rmsnorm.cu and their launcher agree on.
   x, y, dy, dx [R, C] f32 · w, dw [C] f32 · rstd [R] f32 · partial [ceil(R / TILE), C] f32 */
#ifndef SIDRA_RMSNORM_H
#define SIDRA_RMSNORM_H
#include <stdint.h>

typedef struct RmsnormParams {
  uint32_t rows;  /* R */
  uint32_t width; /* C */
  float eps;      /* added to the mean square */
  uint32_t add;   /* backward: dx += where not 0 */
} RmsnormParams;

enum RmsnormTiles {
  RMSNORM_WARPS = 4,     /* rows a block, a warp a row */
  RMSNORM_TILE = 64,     /* rows whose share of dw one block sums; part of the result's bits */
  RMSNORM_COLUMNS = 128, /* columns a block of the first dw pass */
  RMSNORM_FOLD = 8       /* threads that share a column in the second dw pass */
};
#endif
