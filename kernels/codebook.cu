// codebook: the nearest codeword of every point, and codewords as means of their points.
//
//   d[n, k] = Σ_i (x[n, i] − c[k, i])²     codes[n] = argmin_k d[n, k], the lowest k of a tie
//   c[k] ← mean of { x[n] : codes[n] = k }, left as it is where there is none;  counts[k] = |{ … }|
//
// Shapes     x [N, D] · centres [K, D] · distance [N] f32 · codes [N] · counts [K] · bad [2], [1] u32,
//            all ones before the call
// Tiling     assign: TILE points × TILE codewords a block, DEPTH coordinates at a time through shared
//            memory, 4 × 4 pairs a thread; the best so far stays in registers over all codewords
//            update: a codeword × COLUMNS coordinates a block, which looks at every point's code
// Roofline   assign: compute, 3·N·K·D operations as N·K·D subtractions and N·K·D FMAs on f32 cores.
//            The difference is squared as it stands: ‖x‖² − 2·x·c + ‖c‖² would cost one FMA instead,
//            and the digits of near ties with it
// Edges      a ragged tile is filled with zeros; points past N and codewords past K never compare ·
//            assign: bad[0] ← the lowest point without a finite distance, bad[1] ← the lowest codeword
//            that is not finite · update: bad[0] ← the lowest point whose code is no codeword
// Order      every d sums its coordinates from 0 to D − 1, every mean its points from 0 to N − 1 (in
//            f64): runs repeat bit for bit, and a point does not depend on its neighbours
// Reference  engine/src/ops/codebook/reference.rs
#include "codebook.h"
#include "common/warp.cuh"

namespace {
constexpr uint32_t TILE = CODEBOOK_TILE, DEPTH = CODEBOOK_DEPTH, SIDE = CODEBOOK_SIDE;
constexpr uint32_t EACH = TILE / SIDE;
constexpr uint32_t ROW = TILE + 4;  // rows stay 16-byte aligned and start in other banks
static_assert(EACH == 4, "a thread reads its four as one float4");

// to[i][r] = from[first + r, at + i], transposed; zero past `rows` and past `width`. The lowest row
// with a number that is not finite goes to `bad`, where one is given.
PRIM void load_tile(float (&to)[DEPTH][ROW], const float* from, uint32_t first, uint32_t rows,
                    uint32_t at, uint32_t width, uint32_t* bad) {
  for (uint32_t e = threadIdx.x; e < TILE * DEPTH; e += SIDE * SIDE) {
    const uint32_t r = e / DEPTH, i = e % DEPTH;
    const bool in = first + r < rows && at + i < width;
    const float v = in ? from[size_t(first + r) * width + at + i] : 0.0f;
    if (bad != nullptr && !(fabsf(v) < INFINITY)) atomicMin(bad, first + r);
    to[i][r] = v;
  }
}
}  // namespace

extern "C" __global__ void __launch_bounds__(CODEBOOK_SIDE * CODEBOOK_SIDE)
codebook_assign_f32(uint32_t* __restrict__ codes, float* __restrict__ distance,
                    uint32_t* __restrict__ bad, const float* __restrict__ x, const float* __restrict__ centres,
                    const CodebookParams p) {
  __shared__ __align__(16) float xs[DEPTH][ROW];
  __shared__ __align__(16) float cs[DEPTH][ROW];
  const uint32_t tx = threadIdx.x % SIDE, ty = threadIdx.x / SIDE;
  const uint32_t first = blockIdx.x * TILE;

  float best[EACH];
  uint32_t which[EACH] = {};
  for (uint32_t i = 0; i < EACH; ++i) best[i] = INFINITY;
  for (uint32_t k = 0; k < p.codes; k += TILE) {
    float d[EACH][EACH] = {};
    for (uint32_t at = 0; at < p.width; at += DEPTH) {
      load_tile(xs, x, first, p.points, at, p.width, nullptr);
      load_tile(cs, centres, k, p.codes, at, p.width, blockIdx.x == 0 ? &bad[1] : nullptr);
      __syncthreads();
#pragma unroll
      for (uint32_t i = 0; i < DEPTH; ++i) {
        const float4 a4 = *reinterpret_cast<const float4*>(&xs[i][ty * EACH]);
        const float4 b4 = *reinterpret_cast<const float4*>(&cs[i][tx * EACH]);
        const float a[EACH] = {a4.x, a4.y, a4.z, a4.w}, b[EACH] = {b4.x, b4.y, b4.z, b4.w};
#pragma unroll
        for (uint32_t r = 0; r < EACH; ++r) {
#pragma unroll
          for (uint32_t c = 0; c < EACH; ++c) {
            const float e = a[r] - b[c];
            d[r][c] = fmaf(e, e, d[r][c]);
          }
        }
      }
      __syncthreads();  // the next round overwrites the tiles
    }
    // Codewords come in ascending order, so only a smaller distance replaces an earlier one.
#pragma unroll
    for (uint32_t r = 0; r < EACH; ++r) {
#pragma unroll
      for (uint32_t c = 0; c < EACH; ++c) {
        const uint32_t code = k + tx * EACH + c;
        if (code < p.codes && d[r][c] < best[r]) best[r] = d[r][c], which[r] = code;
      }
    }
  }

  // The 16 threads of a point are 16 neighbouring lanes.
#pragma unroll
  for (uint32_t r = 0; r < EACH; ++r) {
#pragma unroll
    for (int step = SIDE / 2; step > 0; step /= 2) {
      const float other = __shfl_xor_sync(ALL_LANES, best[r], step);
      const uint32_t theirs = __shfl_xor_sync(ALL_LANES, which[r], step);
      if (other < best[r] || (other == best[r] && theirs < which[r])) {
        best[r] = other, which[r] = theirs;
      }
    }
    const uint32_t point = first + ty * EACH + r;
    if (tx == 0 && point < p.points) {
      codes[point] = which[r], distance[point] = best[r];
      if (best[r] == INFINITY) atomicMin(&bad[0], point);
    }
  }
}
SIMT_EXPORT(codebook_assign_f32)

extern "C" __global__ void __launch_bounds__(CODEBOOK_COLUMNS)
codebook_update_f32(float* __restrict__ centres, uint32_t* __restrict__ counts,
                    uint32_t* __restrict__ bad, const float* __restrict__ x, const uint32_t* __restrict__ codes,
                    const CodebookParams p) {
  constexpr uint32_t WARPS = CODEBOOK_COLUMNS / WARP;
  __shared__ uint32_t member[CODEBOOK_COLUMNS];
  __shared__ uint32_t found[WARPS];
  const uint32_t t = threadIdx.x, lane = t % WARP, warp = t / WARP, code = blockIdx.x;
  const uint32_t column = blockIdx.y * CODEBOOK_COLUMNS + t;
  double sum = 0.0;
  uint32_t count = 0;
  for (uint32_t first = 0; first < p.points; first += CODEBOOK_COLUMNS) {
    const bool mine = first + t < p.points && codes[first + t] == code;
    if (code == 0 && first + t < p.points && codes[first + t] >= p.codes) atomicMin(bad, first + t);
    const uint32_t votes = __ballot_sync(ALL_LANES, mine);
    if (lane == 0) found[warp] = __popc(votes);
    __syncthreads();
    uint32_t before = 0, here = 0;
    for (uint32_t w = 0; w < WARPS; ++w) {
      if (w < warp) before += found[w];
      here += found[w];
    }
    if (mine) member[before + __popc(votes & ((1u << lane) - 1))] = first + t;  // ascending
    __syncthreads();
    if (column < p.width) {
      for (uint32_t i = 0; i < here; ++i) sum += double(x[size_t(member[i]) * p.width + column]);
    }
    count += here;
    // No barrier: the next round writes `found` after all have read it, and `member` after its own
    // first barrier, which nobody reaches before reading this round's.
  }
  if (column < p.width && count > 0) {
    centres[size_t(code) * p.width + column] = float(sum / double(count));
  }
  if (blockIdx.y == 0 && t == 0) counts[code] = count;
}
SIMT_EXPORT(codebook_update_f32)
