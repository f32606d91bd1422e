// rmsnorm: root-mean-square norm over the last axis, forward and backward.
//
//   rstd[r] = 1 / √(Σ_c x[r, c]² / C + ε)         y[r, c] = x[r, c]·rstd[r]·w[c]
//   g = dy·w    dx = rstd·(g − x·rstd²·mean_c(g·x))    dw[c] += Σ_r dy[r, c]·x[r, c]·rstd[r]
//
// Shapes     x, y, dy, dx [R, C] f32 or bf16 · w, dw [C], rstd [R] f32 · partial [⌈R / tile⌉, C] scratch
// Tiling     forward: `lanes` lanes a row (a warp from C of 129 on, 8 for a head of 64), chunks of 8
//            columns, every lanes-th chunk a lane · backward: a block a tile of rows; it finds each row's
//            mean first, then dx and the tile's share of dw from a second reading, which L1 serves, each
//            thread 8 columns of every k-th row · fold: FOLD threads a column over the tiles
// Roofline   memory. Forward 6 bytes an element (x f32, y bf16), 4 (both bf16), 8 (both f32). Backward
//            10 (dx ←) or 14 (dx +=) with x f32 and dy bf16, 6 all bf16; dw's tiles cost 8·C / tile more
// Edges      no row: the launcher does not launch · any C ≥ 1; 16-byte accesses where C divides by 8 and
//            the addresses by 16, else element by element to the same bits
// Order      a row is summed by its lanes in lane order, dw by row group, tile and tile number: runs repeat
//            bit for bit, and a row does not depend on how many others there are
// Reference  engine/src/ops/rmsnorm/reference.rs
#include "rmsnorm.h"
#include "common/fold.cuh"
#include "common/vector.cuh"

template <class X, class Y>
PRIM void rmsnorm_forward(Y* __restrict__ y, float* __restrict__ rstd, const X* __restrict__ x,
                          const float* __restrict__ w, const RmsnormParams& p) {
  const uint32_t lane = threadIdx.x % p.lanes;
  const uint32_t row = blockIdx.x * (RMSNORM_THREADS / p.lanes) + threadIdx.x / p.lanes;
  const bool live = row < p.rows;  // the others stay for the shuffles
  const bool fast = p.width % VEC == 0 && aligned(x) && aligned(y) && aligned(w);
  const size_t base = size_t(row) * p.width;  // R·C passes 2³² at 8M rows of 512
  float square = 0.0f, v[VEC], u[VEC];
  if (live) {
#pragma unroll 4
    for (uint32_t c = lane * VEC; c < p.width; c += p.lanes * VEC) {
      load8(v, x + base + c, p.width - c, fast);
#pragma unroll
      for (uint32_t i = 0; i < VEC; ++i) square = fmaf(v[i], v[i], square);
    }
  }
  const float s = 1.0f / sqrtf(group_sum(square, p.lanes) / float(p.width) + p.eps);
  if (!live) return;
#pragma unroll 2
  for (uint32_t c = lane * VEC; c < p.width; c += p.lanes * VEC) {
    load8(v, x + base + c, p.width - c, fast);
    load8(u, w + c, p.width - c, fast);
#pragma unroll
    for (uint32_t i = 0; i < VEC; ++i) v[i] = v[i] * s * u[i];
    store8(y + base + c, v, p.width - c, fast);
  }
  if (lane == 0) rstd[row] = s;
}

extern "C" __global__ void __launch_bounds__(RMSNORM_THREADS)
rmsnorm_forward_f32(float* __restrict__ y, float* __restrict__ rstd, const float* __restrict__ x,
                    const float* __restrict__ w, const RmsnormParams p) {
  rmsnorm_forward(y, rstd, x, w, p);
}
SIMT_EXPORT(rmsnorm_forward_f32)

extern "C" __global__ void __launch_bounds__(RMSNORM_THREADS)
rmsnorm_forward_f32_bf16(bf16* __restrict__ y, float* __restrict__ rstd, const float* __restrict__ x,
                         const float* __restrict__ w, const RmsnormParams p) {
  rmsnorm_forward(y, rstd, x, w, p);
}
SIMT_EXPORT(rmsnorm_forward_f32_bf16)

extern "C" __global__ void __launch_bounds__(RMSNORM_THREADS)
rmsnorm_forward_bf16(bf16* __restrict__ y, float* __restrict__ rstd, const bf16* __restrict__ x,
                     const float* __restrict__ w, const RmsnormParams p) {
  rmsnorm_forward(y, rstd, x, w, p);
}
SIMT_EXPORT(rmsnorm_forward_bf16)

// pull[r] ← rstd²·mean_c(dy·w·x) of the tile's rows.
template <class X, class DY>
PRIM void rmsnorm_pulls(float* pull, const X* __restrict__ x, const float* __restrict__ w,
                        const float* __restrict__ rstd, const DY* __restrict__ dy, bool fast,
                        uint32_t first, uint32_t rows, const RmsnormParams& p) {
  const uint32_t lane = threadIdx.x % p.lanes, groups = RMSNORM_THREADS / p.lanes;
  for (uint32_t start = 0; start < rows; start += groups) {  // the same for the whole block
    const uint32_t r = start + threadIdx.x / p.lanes;
    const size_t base = size_t(first + r) * p.width;
    float dot = 0.0f, v[VEC], u[VEC], g[VEC];
    if (r < rows) {
#pragma unroll 2
      for (uint32_t c = lane * VEC; c < p.width; c += p.lanes * VEC) {
        load8(v, x + base + c, p.width - c, fast);
        load8(g, dy + base + c, p.width - c, fast);
        load8(u, w + c, p.width - c, fast);
#pragma unroll
        for (uint32_t i = 0; i < VEC; ++i) dot = fmaf(g[i] * u[i], v[i], dot);
      }
    }
    dot = group_sum(dot, p.lanes);
    if (r < rows && lane == 0) {
      const float s = rstd[first + r];
      pull[r] = dot / float(p.width) * s * s;
    }
  }
}

// dx, and partial[tile, c] = Σ dy·x·rstd over the tile's rows. `pull` [RMSNORM_TILE] and `sums`
// [8·RMSNORM_THREADS] are shared memory.
template <class X, class DY, class DX>
PRIM void rmsnorm_backward(DX* __restrict__ dx, float* __restrict__ partial, const X* __restrict__ x,
                           const float* __restrict__ w, const float* __restrict__ rstd,
                           const DY* __restrict__ dy, float* pull, float* sums,
                           const RmsnormParams& p) {
  const uint32_t first = blockIdx.x * p.tile, rows = min(p.rows - first, p.tile);
  const bool fast = p.width % VEC == 0 && aligned(x) && aligned(dy) && aligned(dx) && aligned(w) &&
                    aligned(partial);
  rmsnorm_pulls(pull, x, w, rstd, dy, fast, first, rows, p);
  __syncthreads();
  // Narrow rows: `groups` threads share 8 columns, each with every groups-th row.
  const uint32_t chunks = (p.width + VEC - 1) / VEC, side = min(chunks, uint32_t(RMSNORM_THREADS));
  const uint32_t groups = RMSNORM_THREADS / side, group = threadIdx.x / side;
  for (uint32_t chunk = threadIdx.x % side; chunk < chunks; chunk += side) {
    const uint32_t c = chunk * VEC, n = p.width - c;
    float v[VEC], u[VEC], g[VEC], d[VEC], sum[VEC] = {};
    load8(u, w + c, n, fast);
#pragma unroll 2
    for (uint32_t r = group; r < rows && group < groups; r += groups) {
      const size_t at = size_t(first + r) * p.width + c;
      const float s = rstd[first + r], t = pull[r];
      load8(v, x + at, n, fast);
      load8(g, dy + at, n, fast);
      if (p.add) load8(d, dx + at, n, fast);
#pragma unroll
      for (uint32_t i = 0; i < VEC; ++i) {
        sum[i] = fmaf(g[i] * v[i], s, sum[i]);
        const float e = s * (g[i] * u[i] - v[i] * t);
        d[i] = p.add ? d[i] + e : e;
      }
      store8(dx + at, d, n, fast);
    }
    if (groups > 1) {  // then each thread comes here once or, beyond the last chunk, not at all
#pragma unroll
      for (uint32_t i = 0; i < VEC; ++i) sums[i * RMSNORM_THREADS + threadIdx.x] = sum[i];
    } else if (group == 0) {  // the others have no row
      store8(partial + size_t(blockIdx.x) * p.width + c, sum, n, fast);
    }
  }
  if (groups == 1) return;
  __syncthreads();
  if (threadIdx.x >= side) return;
  float sum[VEC] = {};
  for (uint32_t i = 0; i < VEC; ++i) {
    for (uint32_t k = 0; k < groups; ++k) sum[i] += sums[i * RMSNORM_THREADS + k * side + threadIdx.x];
  }
  const uint32_t c = threadIdx.x * VEC;
  store8(partial + size_t(blockIdx.x) * p.width + c, sum, p.width - c, fast);
}

extern "C" __global__ void __launch_bounds__(RMSNORM_THREADS)
rmsnorm_backward_f32(float* __restrict__ dx, float* __restrict__ partial, const float* __restrict__ x,
                     const float* __restrict__ w, const float* __restrict__ rstd,
                     const float* __restrict__ dy, const RmsnormParams p) {
  __shared__ float pull[RMSNORM_TILE], sums[VEC * RMSNORM_THREADS];
  rmsnorm_backward(dx, partial, x, w, rstd, dy, pull, sums, p);
}
SIMT_EXPORT(rmsnorm_backward_f32)

extern "C" __global__ void __launch_bounds__(RMSNORM_THREADS)
rmsnorm_backward_f32_bf16(float* __restrict__ dx, float* __restrict__ partial,
                          const float* __restrict__ x, const float* __restrict__ w,
                          const float* __restrict__ rstd, const bf16* __restrict__ dy,
                          const RmsnormParams p) {
  __shared__ float pull[RMSNORM_TILE], sums[VEC * RMSNORM_THREADS];
  rmsnorm_backward(dx, partial, x, w, rstd, dy, pull, sums, p);
}
SIMT_EXPORT(rmsnorm_backward_f32_bf16)

extern "C" __global__ void __launch_bounds__(RMSNORM_THREADS)
rmsnorm_backward_bf16(bf16* __restrict__ dx, float* __restrict__ partial, const bf16* __restrict__ x,
                      const float* __restrict__ w, const float* __restrict__ rstd,
                      const bf16* __restrict__ dy, const RmsnormParams p) {
  __shared__ float pull[RMSNORM_TILE], sums[VEC * RMSNORM_THREADS];
  rmsnorm_backward(dx, partial, x, w, rstd, dy, pull, sums, p);
}
SIMT_EXPORT(rmsnorm_backward_bf16)

// dw[c] += Σ_tile partial[tile, c]: 32 columns a block, thread y of a column takes every FOLD-th tile.
extern "C" __global__ void __launch_bounds__(32 * RMSNORM_FOLD)
rmsnorm_backward_fold(float* __restrict__ dw, const float* __restrict__ partial,
                      const RmsnormParams p) {
  __shared__ float sums[RMSNORM_FOLD][WARP];
  fold_tiles<RMSNORM_FOLD>(dw, partial, sums, p.width, (p.rows + p.tile - 1) / p.tile);
}
SIMT_EXPORT(rmsnorm_backward_fold)
