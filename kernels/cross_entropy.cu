// cross_entropy: softmax cross-entropy of x·wᵀ against labels, the logits never all in memory.
//
//   z[r, v] = Σ_c x[r, c]·w[v, c]     M = max_v z     S = Σ_v e^(z − M)     q = (1 − s)·[v = label] + s / V
//   loss[r] = ln S − (1 − s)·(z[label] − M) − s·(mean_v z − M)
//   dz = scale·(e^(z − M) / S − q)      and by kernels of linear:  dx = dz·w    dw += dzᵀ·x
//
// Shapes     x [R, C], w [V, C], dz [R, stride] bf16 · labels [R] u32 · loss, picked [R], part [P, R, 4],
//            row [R, 2] f32 scratch · every R, C ≥ 0, V ≥ 1
// Tiling     stats: a block 128 rows × `span` tiles of 128 tokens, one product tile after the other
//            (common/mma_tile.cuh); M, S and Σ z of a row so far stay in shared memory, and leave as one
//            part · loss: a warp a row over its parts · gradient: the product once more, a tile a block,
//            turned into dz before it leaves the registers' copy in shared memory
// Roofline   compute: 2·R·C·V for the loss, 8·R·C·V with gradients (one product of four is computed twice:
//            the logits would take 4·R·V bytes). Memory: 6 bytes an element of dz, 16·P·R of parts
// Edges      tokens beyond V take no part · C that is no multiple of 8: the `any` kernels · a row with the label
//            NONE: loss and gradient 0 · a logit that is not finite, or another label outside of the vocabulary:
//            loss and gradient of the row are NaN
// Order      a row's sums run over its tokens in an order that V alone decides; parts are added in order:
//            runs repeat bit for bit and a row does not depend on the others
// Reference  engine/src/ops/cross_entropy/reference.rs
#include "cross_entropy.h"
#include "common/mma_tile.cuh"
#include "common/warp.cuh"

namespace {
using Wide = MmaTile<CROSS_ENTROPY_TILE, CROSS_ENTROPY_TILE, 32, 2, 2, 4>;
using Small = MmaTile<CROSS_ENTROPY_SMALL, CROSS_ENTROPY_SMALL, 64, 2, 2, 3>;
static_assert(Wide::SHARED_BYTES == CROSS_ENTROPY_TILE_BYTES && Small::SHARED_BYTES == CROSS_ENTROPY_SMALL_BYTES);
static_assert(Wide::THREADS == CROSS_ENTROPY_THREADS && Small::THREADS == CROSS_ENTROPY_THREADS);

// What is known of a row's logits so far.
struct Stats {
  float most;   // M: the largest
  float sum;    // Σ e^(z − M)
  float total;  // Σ z
};
PRIM Stats nothing() { return {-INFINITY, 0.0f, 0.0f}; }
PRIM Stats join(Stats a, Stats b) {
  const float most = fmaxf(a.most, b.most), total = a.total + b.total;
  if (most == -INFINITY) return {most, a.sum + b.sum, total};  // no token yet on either side
  return {most, a.sum * __expf(a.most - most) + b.sum * __expf(b.most - most), total};
}

// Stats of the tile's row that this thread shares with its quad: `z` holds the thread's logits of it,
// tokens from `token` on, two and two, eight apart.
template <int NS> PRIM Stats quad_stats(const float (&z)[2 * NS], uint32_t token, uint32_t vocab) {
  Stats s = nothing();
#pragma unroll
  for (int j = 0; j < 2 * NS; ++j) {
    if (token + j / 2 * 8 + j % 2 < vocab) s.most = fmaxf(s.most, z[j]);
  }
#pragma unroll
  for (int step = 1; step < 4; step *= 2) s.most = fmaxf(s.most, __shfl_xor_sync(ALL_LANES, s.most, step));
#pragma unroll
  for (int j = 0; j < 2 * NS; ++j) {
    if (token + j / 2 * 8 + j % 2 < vocab) s.sum += __expf(z[j] - s.most), s.total += z[j];
  }
#pragma unroll
  for (int step = 1; step < 4; step *= 2) {
    s.sum += __shfl_xor_sync(ALL_LANES, s.sum, step);
    s.total += __shfl_xor_sync(ALL_LANES, s.total, step);
  }
  return s;
}

template <class T, bool ALIGNED>
PRIM void stats(float4* part, float* picked, const bf16* x, const bf16* w, const uint32_t* labels,
                const CrossEntropyParams& p) {
  DYNAMIC_SHARED(bf16, ring);
  __shared__ Stats sofar[T::WARPS_N][T::BM];
  const TilePlace tile = tile_place(blockIdx.x, (p.rows + T::BM - 1) / T::BM, p.parts);
  const uint32_t row0 = tile.m * T::BM, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const uint32_t wm = warp / T::WARPS_N, wn = warp % T::WARPS_N;
  for (uint32_t i = threadIdx.x; i < T::WARPS_N * T::BM; i += T::THREADS) sofar[i / T::BM][i % T::BM] = nothing();
  __syncthreads();
  for (uint32_t t = 0; t < p.span; ++t) {
    const uint32_t token0 = (tile.n * p.span + t) * T::BN;
    if (token0 >= p.vocab) break;
    float acc[T::MS][T::NS][4] = {};
    Operand<T, T::BM, false, ALIGNED> at_x(x, p.rows, p.width, p.width, row0, 0);
    Operand<T, T::BN, false, ALIGNED> at_w(w, p.vocab, p.width, p.width, token0, 0);
    mma_loop<T, false, false>(acc, ring, at_x, at_w, (p.width + T::BK - 1) / T::BK);
    const uint32_t token = token0 + wn * T::WN + lane % 4 * 2;
#pragma unroll
    for (int i = 0; i < 2 * T::MS; ++i) {
      float z[2 * T::NS];
#pragma unroll
      for (int j = 0; j < 2 * T::NS; ++j) z[j] = acc[i / 2][j / 2][i % 2 * 2 + j % 2];
      const Stats s = quad_stats<T::NS>(z, token, p.vocab);
      const uint32_t row = wm * T::WM + i * 8 + lane / 4;
      if (lane % 4 == 0) sofar[wn][row] = join(sofar[wn][row], s);
      if (row0 + row < p.rows) {
        const uint32_t away = labels[row0 + row] - token;  // wraps where the label lies before
#pragma unroll
        for (int j = 0; j < 2 * T::NS; ++j) {
          if (away == uint32_t(j / 2 * 8 + j % 2)) picked[row0 + row] = z[j];
        }
      }
    }
  }
  __syncthreads();
  for (uint32_t r = threadIdx.x; r < T::BM && row0 + r < p.rows; r += T::THREADS) {
    Stats s = sofar[0][r];
#pragma unroll
    for (int i = 1; i < T::WARPS_N; ++i) s = join(s, sofar[i][r]);
    part[size_t(tile.n) * p.rows + row0 + r] = make_float4(s.most, s.sum, s.total, 0.0f);
  }
}

template <class T, bool ALIGNED>
PRIM void gradient(bf16* dz, const float2* row, const bf16* x, const bf16* w, const uint32_t* labels,
                   const CrossEntropyParams& p) {
  DYNAMIC_SHARED(bf16, ring);
  const TilePlace tile = tile_place(blockIdx.x, (p.rows + T::BM - 1) / T::BM, (p.tokens + T::BN - 1) / T::BN);
  const uint32_t row0 = tile.m * T::BM, token0 = tile.n * T::BN;
  float acc[T::MS][T::NS][4] = {};
  Operand<T, T::BM, false, ALIGNED> at_x(x, p.rows, p.width, p.width, row0, 0);
  Operand<T, T::BN, false, ALIGNED> at_w(w + size_t(p.first) * p.width, p.tokens, p.width, p.width, token0, 0);
  mma_loop<T, false, false>(acc, ring, at_x, at_w, (p.width + T::BK - 1) / T::BK);
  const float uniform = p.smoothing / float(p.vocab), sure = 1.0f - p.smoothing;
  each_quad<T>(acc, ring, [&](uint32_t r, uint32_t t, float4 z) {
    const uint32_t at = row0 + r, token = token0 + t;
    if (at >= p.rows || token >= p.stride) return;
    const float2 s = row[at];  // M, 1 / S
    const uint32_t label = labels[at], away = label - p.first - token;
    auto dz_of = [&](float v, uint32_t i) {
      if (token + i >= p.tokens || label == CROSS_ENTROPY_NONE) return 0.0f;  // rows of dz are read to their stride's end
      return p.scale * (__expf(v - s.x) * s.y - uniform - (away == i ? sure : 0.0f));
    };
    *reinterpret_cast<uint2*>(dz + size_t(at) * p.stride + token) =
        make_uint2(pack_bf16(dz_of(z.x, 0), dz_of(z.y, 1)), pack_bf16(dz_of(z.z, 2), dz_of(z.w, 3)));
  });
}
}  // namespace

extern "C" __global__ void __launch_bounds__(CROSS_ENTROPY_THREADS, 2)
cross_entropy_stats_bf16_128x128(float4* part, float* picked, const bf16* x, const bf16* w, const uint32_t* labels,
                                 const CrossEntropyParams p) {
  stats<Wide, true>(part, picked, x, w, labels, p);
}
SIMT_EXPORT(cross_entropy_stats_bf16_128x128)

extern "C" __global__ void __launch_bounds__(CROSS_ENTROPY_THREADS, 2)
cross_entropy_stats_bf16_any(float4* part, float* picked, const bf16* x, const bf16* w, const uint32_t* labels,
                             const CrossEntropyParams p) {
  stats<Small, false>(part, picked, x, w, labels, p);
}
SIMT_EXPORT(cross_entropy_stats_bf16_any)

extern "C" __global__ void __launch_bounds__(CROSS_ENTROPY_THREADS, 2)
cross_entropy_gradient_bf16_128x128(bf16* dz, const float2* row, const bf16* x, const bf16* w,
                                    const uint32_t* labels, const CrossEntropyParams p) {
  gradient<Wide, true>(dz, row, x, w, labels, p);
}
SIMT_EXPORT(cross_entropy_gradient_bf16_128x128)

extern "C" __global__ void __launch_bounds__(CROSS_ENTROPY_THREADS, 2)
cross_entropy_gradient_bf16_any(bf16* dz, const float2* row, const bf16* x, const bf16* w, const uint32_t* labels,
                                const CrossEntropyParams p) {
  gradient<Small, false>(dz, row, x, w, labels, p);
}
SIMT_EXPORT(cross_entropy_gradient_bf16_any)

// loss and (M, 1 / S) of each row from its parts; NaN where the row has no loss.
extern "C" __global__ void __launch_bounds__(CROSS_ENTROPY_WARPS * 32)
cross_entropy_loss_f32(float* __restrict__ loss, float2* __restrict__ row, const float4* __restrict__ part,
                       const float* __restrict__ picked, const uint32_t* __restrict__ labels,
                       const CrossEntropyParams p) {
  const uint32_t r = blockIdx.x * CROSS_ENTROPY_WARPS + threadIdx.x / WARP, lane = threadIdx.x % WARP;
  if (r >= p.rows) return;  // whole warps leave together
  Stats s = nothing();
  for (uint32_t i = lane; i < p.parts; i += WARP) {
    const float4 v = part[size_t(i) * p.rows + r];
    s = join(s, Stats{v.x, v.y, v.z});
  }
#pragma unroll
  for (int step = 16; step > 0; step /= 2) {
    s = join(s, Stats{__shfl_xor_sync(ALL_LANES, s.most, step), __shfl_xor_sync(ALL_LANES, s.sum, step),
                      __shfl_xor_sync(ALL_LANES, s.total, step)});
  }
  if (lane != 0) return;
  if (labels[r] == CROSS_ENTROPY_NONE) {
    loss[r] = 0.0f;
    row[r] = make_float2(0.0f, 0.0f);
    return;
  }
  const bool good = labels[r] < p.vocab && fabsf(s.total) < INFINITY;  // false for NaN too
  const float mean = s.total / float(p.vocab);
  const float nll = good ? logf(s.sum) - (1.0f - p.smoothing) * (picked[r] - s.most) - p.smoothing * (mean - s.most) : NAN;
  loss[r] = nll;
  row[r] = make_float2(s.most, good ? 1.0f / s.sum : NAN);
}
SIMT_EXPORT(cross_entropy_loss_f32)
