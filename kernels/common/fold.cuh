// The second pass of a sum over rows: tiles' partial sums into the gradient that they belong to, in a
// fixed order. The first pass stands in each family (rmsnorm.cu, layernorm.cu, linear.cu).
#pragma once
#include "warp.cuh"

// y[c] += Σ_t partial[t, c] for the block's 32 columns. FOLD warps: warp i adds the tiles i, i + FOLD, …,
// then the warps' sums are added in order. `sums` is shared.
template <int FOLD>
PRIM void fold_tiles(float* __restrict__ y, const float* __restrict__ partial, float (&sums)[FOLD][WARP],
                     uint32_t width, uint32_t tiles) {
  const uint32_t lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
  const uint32_t c = blockIdx.x * WARP + lane;
  float sum = 0.0f;
  if (c < width) {
#pragma unroll 8
    for (uint32_t t = warp; t < tiles; t += FOLD) sum += partial[size_t(t) * width + c];
  }
  sums[warp][lane] = sum;
  __syncthreads();
  if (warp == 0 && c < width) {
    float total = y[c];
    for (int i = 0; i < FOLD; ++i) total += sums[i][lane];
    y[c] = total;
  }
}
