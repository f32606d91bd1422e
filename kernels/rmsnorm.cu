// rmsnorm: root-mean-square norm over the last axis, forward and backward.
//
//   rstd[r] = 1 / √(Σ_c x[r, c]² / C + ε)         y[r, c] = x[r, c]·rstd[r]·w[c]
//   g = dy·w    dx = rstd·(g − x·rstd²·mean_c(g·x))    dw[c] += Σ_r dy[r, c]·x[r, c]·rstd[r]
//
// Shapes     x, y, dy, dx [R, C] · w, dw [C] · rstd [R], all f32 · partial [⌈R / TILE⌉, C] scratch
// Tiling     forward, dx: a warp a row, lane i takes columns i, i + 32, … · dw: TILE rows × COLUMNS a
//            block into `partial`, then FOLD threads a column over the tiles
// Roofline   memory: 8 bytes an element forward, 12 backward dx (+4 with add), 8 dw; a row's second
//            reading comes from L1 up to C of about 8k
// Edges      no row: the launcher does not launch · any C ≥ 1, no alignment asked for
// Order      a row is summed by one warp in lane order, dw by tile and then by tile number: runs repeat
//            bit for bit and a row does not depend on how many others there are
// Reference  engine/src/ops/rmsnorm/reference.rs
#include "rmsnorm.h"
#include "common/warp.cuh"

extern "C" __global__ void __launch_bounds__(RMSNORM_WARPS * 32)
rmsnorm_forward_f32(float* __restrict__ y, float* __restrict__ rstd, const float* __restrict__ x,
                    const float* __restrict__ w, const RmsnormParams p) {
  const uint32_t row = blockIdx.x * RMSNORM_WARPS + threadIdx.x / WARP, lane = threadIdx.x % WARP;
  if (row >= p.rows) return;  // whole warps leave together, so the shuffles below stay full
  const size_t base = size_t(row) * p.width;  // R·C passes 2³² at 8M rows of 512
  float square = 0.0f;
  for (uint32_t c = lane; c < p.width; c += WARP) square = fmaf(x[base + c], x[base + c], square);
  const float s = 1.0f / sqrtf(warp_sum(square) / float(p.width) + p.eps);
  for (uint32_t c = lane; c < p.width; c += WARP) y[base + c] = x[base + c] * s * w[c];
  if (lane == 0) rstd[row] = s;
}
SIMT_EXPORT(rmsnorm_forward_f32)

extern "C" __global__ void __launch_bounds__(RMSNORM_WARPS * 32)
rmsnorm_backward_f32(float* __restrict__ dx, const float* __restrict__ x, const float* __restrict__ w,
                     const float* __restrict__ rstd, const float* __restrict__ dy,
                     const RmsnormParams p) {
  const uint32_t row = blockIdx.x * RMSNORM_WARPS + threadIdx.x / WARP, lane = threadIdx.x % WARP;
  if (row >= p.rows) return;
  const size_t base = size_t(row) * p.width;
  float dot = 0.0f;
  for (uint32_t c = lane; c < p.width; c += WARP) {
    dot = fmaf(dy[base + c] * w[c], x[base + c], dot);
  }
  const float s = rstd[row], pull = warp_sum(dot) / float(p.width) * s * s;
  for (uint32_t c = lane; c < p.width; c += WARP) {
    const float d = s * (dy[base + c] * w[c] - x[base + c] * pull);
    dx[base + c] = p.add ? dx[base + c] + d : d;
  }
}
SIMT_EXPORT(rmsnorm_backward_f32)

// partial[tile, c] = Σ dy·x·rstd over the tile's rows, in order.
extern "C" __global__ void __launch_bounds__(RMSNORM_COLUMNS)
rmsnorm_backward_weight_f32(float* __restrict__ partial, const float* __restrict__ x,
                            const float* __restrict__ rstd, const float* __restrict__ dy,
                            const RmsnormParams p) {
  const uint32_t c = blockIdx.y * RMSNORM_COLUMNS + threadIdx.x;
  if (c >= p.width) return;
  const uint32_t first = blockIdx.x * RMSNORM_TILE;
  const uint32_t rows = min(p.rows - first, uint32_t(RMSNORM_TILE));
  float sum = 0.0f;
  for (uint32_t r = first; r < first + rows; ++r) {
    const size_t at = size_t(r) * p.width + c;
    sum = fmaf(dy[at] * x[at], rstd[r], sum);
  }
  partial[size_t(blockIdx.x) * p.width + c] = sum;
}
SIMT_EXPORT(rmsnorm_backward_weight_f32)

// dw[c] += Σ_tile partial[tile, c]: 32 columns a block, thread y of a column takes every FOLD-th tile.
extern "C" __global__ void __launch_bounds__(32 * RMSNORM_FOLD)
rmsnorm_backward_fold_f32(float* __restrict__ dw, const float* __restrict__ partial,
                          const RmsnormParams p) {
  __shared__ float sums[RMSNORM_FOLD][WARP];
  const uint32_t lane = threadIdx.x % WARP, y = threadIdx.x / WARP;
  const uint32_t c = blockIdx.x * WARP + lane;
  const uint32_t tiles = (p.rows + RMSNORM_TILE - 1) / RMSNORM_TILE;
  float sum = 0.0f;
  if (c < p.width) {
    for (uint32_t t = y; t < tiles; t += RMSNORM_FOLD) sum += partial[size_t(t) * p.width + c];
  }
  sums[y][lane] = sum;
  __syncthreads();
  if (y == 0 && c < p.width) {
    float total = dw[c];
    for (uint32_t i = 0; i < RMSNORM_FOLD; ++i) total += sums[i][lane];
    dw[c] = total;
  }
}
SIMT_EXPORT(rmsnorm_backward_fold_f32)
