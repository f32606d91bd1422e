// linear: the matrix products of a linear layer on tensor cores, with what is done to their results.
//
//   nt  out[m, n] = Σ_k a[m, k]·b[n, k]     y = x·wᵀ           tn  out[m, n] = Σ_k a[k, m]·b[k, n]     dw = dyᵀ·x
//   nn  out[m, n] = Σ_k a[m, k]·b[k, n]     dx = dy·w          gated  silu(a·bᵀ)·(a·upᵀ)               SwiGLU
//   each then  + bias[n],  + from[m, n],  rounded once to bf16 or kept in f32
//
// Shapes     out, from [M, N] bf16 or f32 · a, b, up bf16 as above, row-major · bias [N] f32; every M, N, K ≥ 0
// Tiling     a block a tile of 128×128, 128×64, 64×64 or 16×64, four warps, k by 32 or 64 through a ring
//            of cp.async stages (common/mma_tile.cuh). gated: half of a tile's columns are of b, the
//            other half the same columns of up, side by side in each warp
// Split      blockIdx.y takes `chunk` of k into partial[y]; linear_fold adds them in order
// Roofline   compute: 2·M·N·K over the tensor cores' rate; for M ≤ 64 memory: 2·N·K bytes, b read once
// Edges      rows and columns beyond the end are loaded as zeros and not stored, and so is what a stride
//            leaves between rows, which must be finite · lengths that are no
//            multiples of 8: the `any` kernels load element by element · K = 0: the product is 0
// Order      k ascending in steps of 16 in every tile size, splits in order: runs repeat bit for bit, and a
//            row's bits do not depend on the other rows as long as `chunk` is the same
// Reference  engine/src/ops/linear/reference.rs
#include "linear.h"
#include "common/mma_tile.cuh"

namespace {
using Large = MmaTile<LINEAR_LARGE, LINEAR_LARGE, 32, 2, 2, 4>;
using Tall = MmaTile<LINEAR_LARGE, LINEAR_SMALL, 32, 2, 2, 4>;
using Small = MmaTile<LINEAR_SMALL, LINEAR_SMALL, 64, 2, 2, 3>;
using Skinny = MmaTile<LINEAR_SKINNY, LINEAR_SMALL, 64, 1, 4, 4>;
static_assert(Large::SHARED_BYTES == LINEAR_LARGE_BYTES && Tall::SHARED_BYTES == LINEAR_TALL_BYTES);
static_assert(Small::SHARED_BYTES == LINEAR_SMALL_BYTES && Skinny::SHARED_BYTES == LINEAR_SKINNY_BYTES);
static_assert(Large::THREADS == LINEAR_THREADS && Tall::THREADS == LINEAR_THREADS);
static_assert(Small::THREADS == LINEAR_THREADS && Skinny::THREADS == LINEAR_THREADS);

PRIM float silu(float x) { return x / (1.0f + __expf(-x)); }

// Where results go, and what is added to them on the way.
struct Sink {
  void* out;
  const void* from;
  const float* bias;
  uint32_t flags;

  PRIM void one(size_t at, uint32_t column, float v) const {
    if (flags & LINEAR_BIAS) v += bias[column];
    if (flags & LINEAR_ADD) {
      v += flags & LINEAR_FROM_F32 ? static_cast<const float*>(from)[at]
                                   : __bfloat162float(static_cast<const bf16*>(from)[at]);
    }
    if (flags & LINEAR_OUT_F32) static_cast<float*>(out)[at] = v;
    else static_cast<bf16*>(out)[at] = __float2bfloat16_rn(v);
  }
  // Four columns whose place is a multiple of four.
  PRIM void four(size_t at, uint32_t column, float4 v) const {
    if (flags & LINEAR_BIAS) {
      v = make_float4(v.x + bias[column], v.y + bias[column + 1], v.z + bias[column + 2], v.w + bias[column + 3]);
    }
    if (flags & LINEAR_ADD && flags & LINEAR_FROM_F32) {
      const float4 f = *reinterpret_cast<const float4*>(static_cast<const float*>(from) + at);
      v = make_float4(v.x + f.x, v.y + f.y, v.z + f.z, v.w + f.w);
    } else if (flags & LINEAR_ADD) {
      const uint2 f = *reinterpret_cast<const uint2*>(static_cast<const bf16*>(from) + at);
      v = make_float4(v.x + bf16_low(f.x), v.y + bf16_high(f.x), v.z + bf16_low(f.y), v.w + bf16_high(f.y));
    }
    if (flags & LINEAR_OUT_F32) {
      *reinterpret_cast<float4*>(static_cast<float*>(out) + at) = v;
    } else {
      *reinterpret_cast<uint2*>(static_cast<bf16*>(out) + at) =
          make_uint2(pack_bf16(v.x, v.y), pack_bf16(v.z, v.w));
    }
  }
  // Four columns from `column` on of a row of n that starts at `row_at`, as far as there are so many.
  PRIM void put(size_t row_at, uint32_t column, uint32_t n, float4 v) const {
    if (n % 4 == 0 && column < n) return four(row_at + column, column, v);
    if (column < n) one(row_at + column, column, v.x);
    if (column + 1 < n) one(row_at + column + 1, column + 1, v.y);
    if (column + 2 < n) one(row_at + column + 2, column + 2, v.z);
    if (column + 3 < n) one(row_at + column + 3, column + 3, v.w);
  }
};

// The part of k that this block's split covers, in stages.
template <class T> PRIM uint32_t stages_of_split(const LinearParams& p, uint32_t k0) {
  return (min(p.chunk, p.k - k0) + T::BK - 1) / T::BK;
}

template <class T, bool A_MN, bool B_MN, bool ALIGNED>
PRIM void product(void* out, const void* from, const float* bias, const bf16* a, const bf16* b,
                  const LinearParams& p) {
  DYNAMIC_SHARED(bf16, ring);
  const TilePlace tile = tile_place(blockIdx.x, (p.m + T::BM - 1) / T::BM, (p.n + T::BN - 1) / T::BN);
  const uint32_t m0 = tile.m * T::BM, n0 = tile.n * T::BN, k0 = blockIdx.y * p.chunk;
  float acc[T::MS][T::NS][4] = {};
  Operand<T, T::BM, A_MN, ALIGNED> at_a(a, p.m, p.k, p.a_stride, m0, k0);
  Operand<T, T::BN, B_MN, ALIGNED> at_b(b, p.n, p.k, p.b_stride, n0, k0);
  mma_loop<T, A_MN, B_MN>(acc, ring, at_a, at_b, stages_of_split<T>(p, k0));
  const Sink sink{out, from, bias, p.flags};
  const size_t split = size_t(blockIdx.y) * p.m * p.n;  // partial sums: [S, M, N]
  each_quad<T>(acc, ring, [&](uint32_t row, uint32_t column, float4 v) {
    if (m0 + row < p.m) sink.put(split + size_t(m0 + row) * p.n, n0 + column, p.n, v);
  });
}

// The rows of two matrices [N, K], a warp's columns half from the one and half from the other.
template <class T, bool ALIGNED> struct GatedOperand {
  static constexpr int CHUNKS = T::BK / 8, STEP = T::THREADS / CHUNKS, PASSES = T::BN / STEP, HALF = T::WN / 2;
  const bf16 *gate, *up;
  uint32_t n0, n, k, column;
  PRIM GatedOperand(const bf16* gate_, const bf16* up_, uint32_t n_, uint32_t k_, uint32_t n0_, uint32_t k0)
      : gate(gate_), up(up_), n0(n0_), n(n_), k(k_), column(k0 + threadIdx.x % CHUNKS * 8) {}
  PRIM void load(bf16* dst) {
    const SharedTile<T::BN, T::BK> tile{dst};
#pragma unroll
    for (int i = 0; i < PASSES; ++i) {
      const uint32_t row = threadIdx.x / CHUNKS + i * STEP;
      const uint32_t of = n0 + row / T::WN * HALF + row % HALF;
      const bf16* base = row % T::WN < HALF ? gate : up;
      copy_chunk<ALIGNED>(tile.at(row, threadIdx.x % CHUNKS), base + size_t(of) * k + column, of < n && column < k, k - column);
    }
    column += T::BK;
  }
};

template <class T, bool ALIGNED>
PRIM void gated(void* out, const bf16* a, const bf16* gate, const bf16* up, const LinearParams& p) {
  DYNAMIC_SHARED(bf16, ring);
  constexpr uint32_t COLUMNS = T::BN / 2, QUADS = T::WN / 8, ROWS = 32 / QUADS;
  const TilePlace tile = tile_place(blockIdx.x, (p.m + T::BM - 1) / T::BM, (p.n + COLUMNS - 1) / COLUMNS);
  const uint32_t m0 = tile.m * T::BM, n0 = tile.n * COLUMNS, k0 = blockIdx.y * p.chunk;
  float acc[T::MS][T::NS][4] = {};
  Operand<T, T::BM, false, ALIGNED> at_a(a, p.m, p.k, p.a_stride, m0, k0);
  GatedOperand<T, ALIGNED> at_b(gate, up, p.n, p.k, n0, k0);
  mma_loop<T, false, false>(acc, ring, at_a, at_b, stages_of_split<T>(p, k0));

  const Sink sink{out, nullptr, nullptr, p.flags};
  WarpResult<T> result(ring);
  result.put(acc);
  const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32, quad = lane % QUADS;
  const uint32_t column = n0 + warp % T::WARPS_N * (T::WN / 2) + quad * 4;
  for (uint32_t r = lane / QUADS; r < T::WM; r += ROWS) {
    const uint32_t row = m0 + warp / T::WARPS_N * T::WM + r;
    if (row >= p.m) continue;
    const float4 g = result.quad(r, quad), u = result.quad(r, quad + QUADS);
    if (p.splits > 1) {  // partial sums: [S, M, 2·N]
      const size_t at = (size_t(blockIdx.y) * p.m + row) * 2 * p.n;
      sink.put(at, column, p.n, g);
      sink.put(at + p.n, column, p.n, u);
    } else {
      sink.put(size_t(row) * p.n, column, p.n,
               make_float4(silu(g.x) * u.x, silu(g.y) * u.y, silu(g.z) * u.z, silu(g.w) * u.w));
    }
  }
}
}  // namespace

#define LINEAR_PRODUCT(name, Tile, A_MN, B_MN, ALIGNED)                                                  \
  extern "C" __global__ void __launch_bounds__(LINEAR_THREADS, 2)                                        \
  name(void* out, const void* from, const float* bias, const bf16* a, const bf16* b, const LinearParams p) { \
    product<Tile, A_MN, B_MN, ALIGNED>(out, from, bias, a, b, p);                                        \
  }
#define LINEAR_GATED_PRODUCT(name, Tile, ALIGNED)                                                        \
  extern "C" __global__ void __launch_bounds__(LINEAR_THREADS, 2)                                        \
  name(void* out, const bf16* a, const bf16* gate, const bf16* up, const LinearParams p) {               \
    gated<Tile, ALIGNED>(out, a, gate, up, p);                                                           \
  }

LINEAR_PRODUCT(linear_nt_bf16_128x128, Large, false, false, true)
SIMT_EXPORT(linear_nt_bf16_128x128)
LINEAR_PRODUCT(linear_nt_bf16_128x64, Tall, false, false, true)
SIMT_EXPORT(linear_nt_bf16_128x64)
LINEAR_PRODUCT(linear_nt_bf16_64x64, Small, false, false, true)
SIMT_EXPORT(linear_nt_bf16_64x64)
LINEAR_PRODUCT(linear_nt_bf16_16x64, Skinny, false, false, true)
SIMT_EXPORT(linear_nt_bf16_16x64)
LINEAR_PRODUCT(linear_nt_bf16_any, Small, false, false, false)
SIMT_EXPORT(linear_nt_bf16_any)

LINEAR_PRODUCT(linear_nn_bf16_128x128, Large, false, true, true)
SIMT_EXPORT(linear_nn_bf16_128x128)
LINEAR_PRODUCT(linear_nn_bf16_128x64, Tall, false, true, true)
SIMT_EXPORT(linear_nn_bf16_128x64)
LINEAR_PRODUCT(linear_nn_bf16_64x64, Small, false, true, true)
SIMT_EXPORT(linear_nn_bf16_64x64)
LINEAR_PRODUCT(linear_nn_bf16_any, Small, false, true, false)
SIMT_EXPORT(linear_nn_bf16_any)

LINEAR_PRODUCT(linear_tn_bf16_128x128, Large, true, true, true)
SIMT_EXPORT(linear_tn_bf16_128x128)
LINEAR_PRODUCT(linear_tn_bf16_64x64, Small, true, true, true)
SIMT_EXPORT(linear_tn_bf16_64x64)
LINEAR_PRODUCT(linear_tn_bf16_any, Small, true, true, false)
SIMT_EXPORT(linear_tn_bf16_any)

LINEAR_GATED_PRODUCT(linear_gated_bf16_128x128, Large, true)
SIMT_EXPORT(linear_gated_bf16_128x128)
LINEAR_GATED_PRODUCT(linear_gated_bf16_64x64, Small, true)
SIMT_EXPORT(linear_gated_bf16_64x64)
LINEAR_GATED_PRODUCT(linear_gated_bf16_16x64, Skinny, true)
SIMT_EXPORT(linear_gated_bf16_16x64)
LINEAR_GATED_PRODUCT(linear_gated_bf16_any, Small, false)
SIMT_EXPORT(linear_gated_bf16_any)

// out[m, n] = Σ_split partial[split, m, n], splits in order, then as above; gated: of both halves.
extern "C" __global__ void __launch_bounds__(LINEAR_THREADS)
linear_fold(void* out, const void* from, const float* bias, const float* __restrict__ partial,
            const LinearParams p) {
  const uint32_t blocks = (p.n + LINEAR_THREADS - 1) / LINEAR_THREADS;  // a row
  const uint32_t row = blockIdx.x / blocks, column = blockIdx.x % blocks * LINEAR_THREADS + threadIdx.x;
  if (column >= p.n) return;
  const bool gate = p.flags & LINEAR_GATED;
  const size_t width = gate ? 2 * size_t(p.n) : p.n, each = p.m * width;
  const float* at = partial + row * width + column;
  float sum = 0.0f, up = 0.0f;
#pragma unroll 4
  for (uint32_t s = 0; s < p.splits; ++s, at += each) {
    sum += *at;
    if (gate) up += at[p.n];
  }
  const Sink sink{out, from, bias, p.flags};
  sink.one(size_t(row) * p.n + column, column, gate ? silu(sum) * up : sum);
}
SIMT_EXPORT(linear_fold)

// partial[g, n] = Σ dy[m, n] over group g of `chunk` rows, in order; dy [M, N].
extern "C" __global__ void __launch_bounds__(LINEAR_THREADS)
linear_backward_bias_bf16(float* __restrict__ partial, const bf16* __restrict__ dy, const LinearParams p) {
  const uint32_t column = blockIdx.y * LINEAR_THREADS + threadIdx.x;
  if (column >= p.n) return;
  const uint32_t first = blockIdx.x * p.chunk, rows = min(p.chunk, p.m - first);
  const bf16* at = dy + size_t(first) * p.n + column;
  float sum = 0.0f;
#pragma unroll 8
  for (uint32_t r = 0; r < rows; ++r, at += p.n) sum += __bfloat162float(*at);
  partial[size_t(blockIdx.x) * p.n + column] = sum;
}
SIMT_EXPORT(linear_backward_bias_bf16)
