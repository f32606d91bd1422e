// layernorm: layer norm over the last axis with weight and bias, forward and backward.
//
//   mean[r] = Σ_c x[r, c] / C      rstd[r] = 1 / √(Σ_c (x[r, c] − mean[r])² / C + ε)
//   n = (x − mean)·rstd            y = n·w + b
//   g = dy·w                       dx = rstd·(g − mean_c(g) − n·mean_c(g·n))
//   dw[c] += Σ_r dy[r, c]·n[r, c]  db[c] += Σ_r dy[r, c]
//
// Shapes     x, y, dy, dx [R, C] f32 or bf16 · w, b, dw, db [C], mean, rstd [R] f32 · partial
//            [2, ⌈R / tile⌉, C] scratch, of dw and of db
// Tiling     that of rmsnorm: `lanes` lanes a row and 8 columns a lane at a time; backward a block a tile
//            of rows, means first, then dx and the tile's sums from a second reading; two launches
// Roofline   memory. Forward 8 bytes an element (f32), 6 (f32 → bf16), 4 (bf16); backward 12 (f32, dx ←), 10
//            (dy bf16), 6 (bf16), 2 to 4 more where dx +=; the tiles' sums cost 16·C / tile more
// Edges      no row: the launcher does not launch · any C ≥ 1; 16-byte accesses where C divides by 8 and
//            the addresses by 16, else element by element to the same bits
// Order      a row is summed by its lanes in lane order, its variance around its mean in a second pass; dw and
//            db by row group, tile and tile number: runs repeat bit for bit
// Reference  engine/src/ops/layernorm/reference.rs
#include "layernorm.h"
#include "common/fold.cuh"
#include "common/vector.cuh"

template <class X, class Y>
PRIM void layernorm_forward(Y* __restrict__ y, float* __restrict__ mean, float* __restrict__ rstd,
                            const X* __restrict__ x, const float* __restrict__ w,
                            const float* __restrict__ b, const LayernormParams& p) {
  const uint32_t lane = threadIdx.x % p.lanes, step = p.lanes * VEC;
  const uint32_t row = blockIdx.x * (LAYERNORM_THREADS / p.lanes) + threadIdx.x / p.lanes;
  const bool live = row < p.rows;  // the others stay for the shuffles
  const bool fast = p.width % VEC == 0 && aligned(x) && aligned(y) && aligned(w) && aligned(b);
  const size_t base = size_t(row) * p.width;
  const uint32_t width = live ? p.width : 0;
  float sum = 0.0f, v[VEC], u[VEC], z[VEC];
#pragma unroll 2
  for (uint32_t c = lane * VEC; c < width; c += step) {
    load8(v, x + base + c, p.width - c, fast);
#pragma unroll
    for (uint32_t i = 0; i < VEC; ++i) sum += v[i];
  }
  const float m = group_sum(sum, p.lanes) / float(p.width);
  float square = 0.0f;
#pragma unroll 2
  for (uint32_t c = lane * VEC; c < width; c += step) {
    load8(v, x + base + c, p.width - c, fast);
#pragma unroll
    for (uint32_t i = 0; i < VEC; ++i) {
      const float d = c + i < p.width ? v[i] - m : 0.0f;
      square = fmaf(d, d, square);
    }
  }
  const float s = 1.0f / sqrtf(group_sum(square, p.lanes) / float(p.width) + p.eps);
  if (!live) return;
#pragma unroll 2
  for (uint32_t c = lane * VEC; c < width; c += step) {
    load8(v, x + base + c, p.width - c, fast);
    load8(u, w + c, p.width - c, fast);
    load8(z, b + c, p.width - c, fast);
#pragma unroll
    for (uint32_t i = 0; i < VEC; ++i) v[i] = fmaf((v[i] - m) * s, u[i], z[i]);
    store8(y + base + c, v, p.width - c, fast);
  }
  if (lane == 0) mean[row] = m, rstd[row] = s;
}

#define LAYERNORM_FORWARD(name, X, Y)                                                                  \
  extern "C" __global__ void __launch_bounds__(LAYERNORM_THREADS)                                     \
  name(Y* __restrict__ y, float* __restrict__ mean, float* __restrict__ rstd, const X* __restrict__ x, \
       const float* __restrict__ w, const float* __restrict__ b, const LayernormParams p) {            \
    layernorm_forward(y, mean, rstd, x, w, b, p);                                                      \
  }
LAYERNORM_FORWARD(layernorm_forward_f32, float, float)
SIMT_EXPORT(layernorm_forward_f32)
LAYERNORM_FORWARD(layernorm_forward_f32_bf16, float, bf16)
SIMT_EXPORT(layernorm_forward_f32_bf16)
LAYERNORM_FORWARD(layernorm_forward_bf16, bf16, bf16)
SIMT_EXPORT(layernorm_forward_bf16)

// pull[r] ← mean_c(g) and mean_c(g·n) of the tile's rows.
template <class X, class DY>
PRIM void layernorm_pulls(float2* pull, const X* __restrict__ x, const float* __restrict__ w,
                          const float* __restrict__ mean, const float* __restrict__ rstd,
                          const DY* __restrict__ dy, bool fast, uint32_t first, uint32_t rows,
                          const LayernormParams& p) {
  const uint32_t lane = threadIdx.x % p.lanes, groups = LAYERNORM_THREADS / p.lanes;
  for (uint32_t start = 0; start < rows; start += groups) {  // the same for the whole block
    const uint32_t r = start + threadIdx.x / p.lanes, width = r < rows ? p.width : 0;
    const size_t base = size_t(first + r) * p.width;
    const float m = r < rows ? mean[first + r] : 0.0f, s = r < rows ? rstd[first + r] : 0.0f;
    float sum = 0.0f, dot = 0.0f, v[VEC], u[VEC], g[VEC];
#pragma unroll 2
    for (uint32_t c = lane * VEC; c < width; c += p.lanes * VEC) {
      load8(v, x + base + c, p.width - c, fast);
      load8(g, dy + base + c, p.width - c, fast);
      load8(u, w + c, p.width - c, fast);
#pragma unroll
      for (uint32_t i = 0; i < VEC; ++i) {
        sum = fmaf(g[i], u[i], sum);
        dot = fmaf(g[i] * u[i], (v[i] - m) * s, dot);
      }
    }
    sum = group_sum(sum, p.lanes);
    dot = group_sum(dot, p.lanes);
    if (r < rows && lane == 0) pull[r] = make_float2(sum / float(p.width), dot / float(p.width));
  }
}

// dx, and the tile's Σ dy·n and Σ dy. `pull` [LAYERNORM_TILE] and `sums` [16·LAYERNORM_THREADS] are shared.
template <class X, class DY>
PRIM void layernorm_backward(X* __restrict__ dx, float* __restrict__ partial, const X* __restrict__ x,
                             const float* __restrict__ w, const float* __restrict__ mean,
                             const float* __restrict__ rstd, const DY* __restrict__ dy, float2* pull,
                             float* sums, const LayernormParams& p) {
  const uint32_t first = blockIdx.x * p.tile, rows = min(p.rows - first, p.tile);
  const bool fast = p.width % VEC == 0 && aligned(x) && aligned(dy) && aligned(dx) && aligned(w) &&
                    aligned(partial);
  layernorm_pulls(pull, x, w, mean, rstd, dy, fast, first, rows, p);
  __syncthreads();
  // Narrow rows: `groups` threads share 8 columns, each with every groups-th row.
  const uint32_t chunks = (p.width + VEC - 1) / VEC, side = min(chunks, uint32_t(LAYERNORM_THREADS));
  const uint32_t groups = LAYERNORM_THREADS / side, group = threadIdx.x / side;
  float* of_w = partial + size_t(blockIdx.x) * p.width;
  float* of_b = of_w + size_t(gridDim.x) * p.width;
  for (uint32_t chunk = threadIdx.x % side; chunk < chunks; chunk += side) {
    const uint32_t c = chunk * VEC, n = p.width - c;
    float v[VEC], u[VEC], g[VEC], d[VEC], sum_w[VEC] = {}, sum_b[VEC] = {};
    load8(u, w + c, n, fast);
    for (uint32_t r = group; r < rows && group < groups; r += groups) {
      const size_t at = size_t(first + r) * p.width + c;
      const float m = mean[first + r], s = rstd[first + r];
      const float2 t = pull[r];
      load8(v, x + at, n, fast);
      load8(g, dy + at, n, fast);
      if (p.add) load8(d, dx + at, n, fast);
#pragma unroll
      for (uint32_t i = 0; i < VEC; ++i) {
        const float z = (v[i] - m) * s, e = s * (g[i] * u[i] - t.x - z * t.y);
        sum_w[i] = fmaf(g[i], z, sum_w[i]);
        sum_b[i] += g[i];
        d[i] = p.add ? d[i] + e : e;
      }
      store8(dx + at, d, n, fast);
    }
    if (groups > 1) {  // then each thread comes here once or, beyond the last chunk, not at all
#pragma unroll
      for (uint32_t i = 0; i < VEC; ++i) {
        sums[i * LAYERNORM_THREADS + threadIdx.x] = sum_w[i];
        sums[(VEC + i) * LAYERNORM_THREADS + threadIdx.x] = sum_b[i];
      }
    } else if (group == 0) {  // the others have no row
      store8(of_w + c, sum_w, n, fast);
      store8(of_b + c, sum_b, n, fast);
    }
  }
  if (groups == 1) return;
  __syncthreads();
  if (threadIdx.x >= side) return;
  const uint32_t c = threadIdx.x * VEC;
  for (uint32_t half = 0; half < 2; ++half) {
    float sum[VEC] = {};
    for (uint32_t i = 0; i < VEC; ++i) {
      const float* of = sums + (half * VEC + i) * LAYERNORM_THREADS + threadIdx.x;
      for (uint32_t k = 0; k < groups; ++k) sum[i] += of[k * side];
    }
    store8((half ? of_b : of_w) + c, sum, p.width - c, fast);
  }
}

#define LAYERNORM_BACKWARD(name, X, DY)                                                                 \
  extern "C" __global__ void __launch_bounds__(LAYERNORM_THREADS)                                      \
  name(X* __restrict__ dx, float* __restrict__ partial, const X* __restrict__ x,                        \
       const float* __restrict__ w, const float* __restrict__ mean, const float* __restrict__ rstd,     \
       const DY* __restrict__ dy, const LayernormParams p) {                                            \
    __shared__ float2 pull[LAYERNORM_TILE];                                                             \
    __shared__ float sums[2 * VEC * LAYERNORM_THREADS];                                                 \
    layernorm_backward(dx, partial, x, w, mean, rstd, dy, pull, sums, p);                               \
  }
LAYERNORM_BACKWARD(layernorm_backward_f32, float, float)
SIMT_EXPORT(layernorm_backward_f32)
LAYERNORM_BACKWARD(layernorm_backward_f32_bf16, float, bf16)
SIMT_EXPORT(layernorm_backward_f32_bf16)
LAYERNORM_BACKWARD(layernorm_backward_bf16, bf16, bf16)
SIMT_EXPORT(layernorm_backward_bf16)

// dw (block y 0) or db (1) += the tiles' sums: 32 columns a block.
extern "C" __global__ void __launch_bounds__(32 * LAYERNORM_FOLD)
layernorm_backward_fold(float* __restrict__ dw, float* __restrict__ db, const float* __restrict__ partial,
                        const LayernormParams p) {
  __shared__ float sums[LAYERNORM_FOLD][WARP];
  const uint32_t tiles = (p.rows + p.tile - 1) / p.tile;
  const float* from = partial + size_t(blockIdx.y) * tiles * p.width;
  fold_tiles<LAYERNORM_FOLD>(blockIdx.y ? db : dw, from, sums, p.width, tiles);
}
SIMT_EXPORT(layernorm_backward_fold)
