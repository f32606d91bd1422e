// reduce: what the step around the model needs. y += x, x·a, Σ x² over all of a model's tensors, and Σ x of
// losses, added up over the batches of a step.
//
//   y[i] += x[i]      x[i] ← a·x[i]      total ← Σ_tensors Σ_i x[i]²      total += Σ_tensors Σ_i x[i]
//
// Shapes     x [n] f32 or bf16, y [n] f32 · table [tensors, 2] u64: address and length of an f32 tensor ·
//            piece [pieces, 2] u32: a tensor, and which PIECE of it · partial [pieces] f64 · total [1] f64
// Tiling     add, scale: 8 neighbouring elements a thread. Sums: a block a piece, then one block over the
//            pieces: two launches whatever the number of tensors
// Roofline   memory: add 12 bytes an element (x f32) or 10 (bf16), scale 8, sums 4
// Edges      the last vector and addresses that do not divide by 16 go element by element; an empty
//            tensor has no piece; the sum of none is 0
// Order      squares and elements are exact in f64; thread i of a piece sums the vectors i, i + THREADS, … of it, then
//            lanes and warps in a fixed order, then pieces: runs repeat bit for bit
// Reference  engine/src/ops/reduce/reference.rs
#include "reduce.h"
#include "common/vector.cuh"

template <class X>
PRIM void reduce_add(float* __restrict__ y, const X* __restrict__ x, const ReduceParams& p) {
  const uint32_t at = (blockIdx.x * REDUCE_THREADS + threadIdx.x) * VEC;
  if (at >= p.len) return;
  const uint32_t n = p.len - at;
  const bool fast = n >= VEC && aligned(x) && aligned(y);
  float a[VEC], b[VEC];
  load8(a, x + at, n, fast);
  load8(b, y + at, n, fast);
#pragma unroll
  for (uint32_t i = 0; i < VEC; ++i) b[i] += a[i];
  store8(y + at, b, n, fast);
}

extern "C" __global__ void __launch_bounds__(REDUCE_THREADS)
reduce_add_f32(float* __restrict__ y, const float* __restrict__ x, const ReduceParams p) {
  reduce_add(y, x, p);
}
SIMT_EXPORT(reduce_add_f32)

extern "C" __global__ void __launch_bounds__(REDUCE_THREADS)
reduce_add_bf16(float* __restrict__ y, const bf16* __restrict__ x, const ReduceParams p) {
  reduce_add(y, x, p);
}
SIMT_EXPORT(reduce_add_bf16)

extern "C" __global__ void __launch_bounds__(REDUCE_THREADS)
reduce_scale_f32(float* __restrict__ x, const ReduceParams p) {
  const uint32_t at = (blockIdx.x * REDUCE_THREADS + threadIdx.x) * VEC;
  if (at >= p.len) return;
  const uint32_t n = p.len - at;
  const bool fast = n >= VEC && aligned(x);
  float v[VEC];
  load8(v, x + at, n, fast);
#pragma unroll
  for (uint32_t i = 0; i < VEC; ++i) v[i] *= p.factor;
  store8(x + at, v, n, fast);
}
SIMT_EXPORT(reduce_scale_f32)

// Thread 0 gets the sum over the block; `sums` is shared, one a warp.
template <int WARPS> PRIM double reduce_block_sum(double v, double (&sums)[WARPS]) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) v += __shfl_xor_sync(ALL_LANES, v, step);
  if (threadIdx.x % WARP == 0) sums[threadIdx.x / WARP] = v;
  __syncthreads();
  double sum = 0.0;
  if (threadIdx.x == 0) {
    for (int w = 0; w < WARPS; ++w) sum += sums[w];
  }
  return sum;
}

// What a sum adds of an element.
struct Square {
  PRIM double operator()(double x, double sum) const { return fma(x, x, sum); }
};
struct Plain {
  PRIM double operator()(double x, double sum) const { return sum + x; }
};

// partial[block] ← Σ of the block's piece.
template <class Term>
PRIM void reduce_pieces(double* __restrict__ partial, const uint64_t* __restrict__ table,
                        const uint32_t* __restrict__ piece, Term term) {
  __shared__ double sums[REDUCE_THREADS / WARP];
  const uint32_t tensor = piece[2 * blockIdx.x];
  const uint64_t first = uint64_t(piece[2 * blockIdx.x + 1]) * REDUCE_PIECE;
  const uint64_t left = table[REDUCE_ENTRY * tensor + 1] - first;
  const float* x = reinterpret_cast<const float*>(table[REDUCE_ENTRY * tensor]) + first;
  const uint32_t len = uint32_t(min(left, uint64_t(REDUCE_PIECE)));
  const bool whole = aligned(x);
  double sum = 0.0;
#pragma unroll 2
  for (uint32_t at = threadIdx.x * VEC; at < len; at += REDUCE_THREADS * VEC) {
    float v[VEC];
    load8(v, x + at, len - at, whole && len - at >= VEC);
#pragma unroll
    for (uint32_t i = 0; i < VEC; ++i) sum = term(double(v[i]), sum);
  }
  sum = reduce_block_sum(sum, sums);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

// Thread 0 of the one block gets Σ partial.
PRIM double reduce_fold(const double* __restrict__ partial, uint32_t pieces) {
  __shared__ double sums[REDUCE_FOLD / WARP];
  double sum = 0.0;
#pragma unroll 4
  for (uint32_t i = threadIdx.x; i < pieces; i += REDUCE_FOLD) sum += partial[i];
  return reduce_block_sum(sum, sums);
}

extern "C" __global__ void __launch_bounds__(REDUCE_THREADS)
reduce_squares_f32(double* __restrict__ partial, const uint64_t* __restrict__ table,
                   const uint32_t* __restrict__ piece) {
  reduce_pieces(partial, table, piece, Square());
}
SIMT_EXPORT(reduce_squares_f32)

extern "C" __global__ void __launch_bounds__(REDUCE_THREADS)
reduce_sum_f32(double* __restrict__ partial, const uint64_t* __restrict__ table,
               const uint32_t* __restrict__ piece) {
  reduce_pieces(partial, table, piece, Plain());
}
SIMT_EXPORT(reduce_sum_f32)

// total ← Σ partial
extern "C" __global__ void __launch_bounds__(REDUCE_FOLD)
reduce_squares_fold(double* __restrict__ total, const double* __restrict__ partial,
                    const ReduceParams p) {
  const double sum = reduce_fold(partial, p.len);
  if (threadIdx.x == 0) total[0] = sum;
}
SIMT_EXPORT(reduce_squares_fold)

// total += Σ partial
extern "C" __global__ void __launch_bounds__(REDUCE_FOLD)
reduce_sum_fold(double* __restrict__ total, const double* __restrict__ partial, const ReduceParams p) {
  const double sum = reduce_fold(partial, p.len);
  if (threadIdx.x == 0) total[0] += sum;
}
SIMT_EXPORT(reduce_sum_fold)
