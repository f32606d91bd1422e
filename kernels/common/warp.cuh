// Reductions over the lanes of a warp and the warps of a block, in an order that follows from the lane
// numbers alone: the same values give the same bits, whatever else the grid does.
// Elsewhere: hardware verbs (prim.cuh).
#pragma once
#include "prim.cuh"

constexpr uint32_t WARP = 32;
constexpr uint32_t ALL_LANES = 0xffffffffu;

// Every lane gets the sum over the 32 lanes. All of them must arrive.
PRIM float warp_sum(float v) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) v += __shfl_xor_sync(ALL_LANES, v, step);
  return v;
}

PRIM float warp_max(float v) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) v = fmaxf(v, __shfl_xor_sync(ALL_LANES, v, step));
  return v;
}

// Every thread gets the sum over the block. `slots` is shared, one a warp; free again on return.
template <int WARPS> PRIM float block_sum(float v, float (&slots)[WARPS]) {
  v = warp_sum(v);
  if (threadIdx.x % WARP == 0) slots[threadIdx.x / WARP] = v;
  __syncthreads();
  float sum = 0.0f;
#pragma unroll
  for (int w = 0; w < WARPS; ++w) sum += slots[w];
  __syncthreads();  // whoever calls next may write the slots
  return sum;
}

template <int WARPS> PRIM float block_max(float v, float (&slots)[WARPS]) {
  v = warp_max(v);
  if (threadIdx.x % WARP == 0) slots[threadIdx.x / WARP] = v;
  __syncthreads();
  float most = slots[0];
#pragma unroll
  for (int w = 1; w < WARPS; ++w) most = fmaxf(most, slots[w]);
  __syncthreads();
  return most;
}
