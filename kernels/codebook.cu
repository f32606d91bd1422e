// codebook: the nearest codeword of every point, and codewords as means of their points.
//
//   d[n, k] = Σ_i (x[n, i] − c[k, i])²     codes[n] = argmin_k d[n, k], the lowest k of a tie
//   c[k] ← mean of { x[n] : codes[n] = k }, left as it is where there is none;  counts[k] = |{ … }|
//
// Shapes     x [N, D] · centres [K, D] · distance [N] f32 · codes [N] · counts [K] · bad [2], [1] u32,
//            all ones before the call · update: table [K, chunks] · order [N] · start, pieces [K + 1] u32 ·
//            partial [N / PIECE + min(K, N), D] f64
// Tiling     assign: TILE points × TILE codewords a block, DEPTH coordinates at a time through shared
//            memory, 4 × 4 pairs a thread; the best so far stays in registers over all codewords
//            update: points sorted by code (a warp a chunk of them), then up to PIECE points of one
//            codeword × COLUMNS coordinates a block: neither many points nor a heavy codeword is serial
// Roofline   assign: compute, 3·N·K·D operations as N·K·D subtractions and N·K·D FMAs on f32 cores.
//            The difference is squared as it stands: ‖x‖² − 2·x·c + ‖c‖² would cost one FMA instead,
//            and the digits of near ties with it · update: memory, 4·N·D bytes of x once; the codes are
//            read twice and the order written and read once, 16·N bytes
// Edges      a ragged tile is filled with zeros; points past N and codewords past K never compare ·
//            assign: bad[0] ← the lowest point without a finite distance, bad[1] ← the lowest codeword
//            that is not finite · update: bad[0] ← the lowest point whose code is no codeword
// Order      every d sums its coordinates from 0 to D − 1, every mean its points ascending (in f64,
//            PIECE at a time): runs repeat bit for bit, and a point does not depend on its neighbours
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

// update, step by step: a stable counting sort of the points by code, then sums along it.
//
//   histogram   table[k, chunk] ← how many points of the chunk have code k
//   offsets     table[k, ·] ← its exclusive prefix sums over the chunks; counts[k] ← the whole
//   segments    start[k], pieces[k] ← exclusive prefix sums over k of counts and of ceil(counts / PIECE)
//   scatter     order[start[k] + …] ← the points of code k, ascending
//   partial     partial[piece] ← the sum of its at most PIECE points, in their order
//   fold        c[k] ← Σ of its pieces, in their order, / counts[k]
namespace {
// Which lanes hold this lane's key; every lane takes part.
struct Peers {
  uint32_t before, count;  // how many of them are lower lanes, and how many there are
};
PRIM Peers peers(uint32_t key) {
  const uint32_t mask = __match_any_sync(ALL_LANES, key);
  return {uint32_t(__popc(mask & ((1u << threadIdx.x % WARP) - 1))), uint32_t(__popc(mask))};
}

// Exclusive prefix sums of a block's values; `total` is the whole. `slots` is shared, free on return.
PRIM uint32_t block_scan(uint32_t v, uint32_t (&slots)[CODEBOOK_COLUMNS / WARP], uint32_t* total) {
  const uint32_t lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
  uint32_t sum = v;
#pragma unroll
  for (uint32_t step = 1; step < WARP; step *= 2) {
    const uint32_t other = __shfl_up_sync(ALL_LANES, sum, step);
    if (lane >= step) sum += other;
  }
  if (lane == WARP - 1) slots[warp] = sum;
  __syncthreads();
  uint32_t before = 0, all = 0;
#pragma unroll
  for (uint32_t w = 0; w < CODEBOOK_COLUMNS / WARP; ++w) {
    if (w < warp) before += slots[w];
    all += slots[w];
  }
  __syncthreads();  // whoever scans next may write the slots
  *total = all;
  return before + sum - v;
}
}  // namespace

// The lowest point whose code is no codeword goes to `bad`. `table` is all zeros before the call.
extern "C" __global__ void __launch_bounds__(CODEBOOK_WARPS * 32)
codebook_histogram(uint32_t* __restrict__ table, uint32_t* __restrict__ bad, const uint32_t* __restrict__ codes,
                   const CodebookUpdateParams p) {
  const uint32_t lane = threadIdx.x % WARP, chunk = blockIdx.x * CODEBOOK_WARPS + threadIdx.x / WARP;
  if (chunk >= p.chunks) return;  // whole warps
  const uint32_t first = chunk * p.chunk, end = min(p.points - first, p.chunk) + first;
  for (uint32_t at = first; at < end; at += WARP) {
    const uint32_t point = at + lane;
    const uint32_t code = point < end ? codes[point] : p.codes;
    if (point < end && code >= p.codes) atomicMin(bad, point);
    const Peers same = peers(min(code, p.codes));
    // No other warp writes the chunk's column, so the first of equal lanes adds for all.
    if (code < p.codes && same.before == 0) table[size_t(code) * p.chunks + chunk] += same.count;
    __syncwarp();  // another lane may add to the same place in the next round
  }
}
SIMT_EXPORT(codebook_histogram)

extern "C" __global__ void __launch_bounds__(CODEBOOK_COLUMNS)
codebook_offsets(uint32_t* __restrict__ table, uint32_t* __restrict__ counts, const CodebookUpdateParams p) {
  __shared__ uint32_t slots[CODEBOOK_COLUMNS / WARP];
  uint32_t* row = table + size_t(blockIdx.x) * p.chunks;
  uint32_t sum = 0;
  for (uint32_t first = 0; first < p.chunks; first += CODEBOOK_COLUMNS) {
    const uint32_t at = first + threadIdx.x;
    uint32_t total;
    const uint32_t before = block_scan(at < p.chunks ? row[at] : 0, slots, &total);
    if (at < p.chunks) row[at] = sum + before;
    sum += total;
  }
  if (threadIdx.x == 0) counts[blockIdx.x] = sum;
}
SIMT_EXPORT(codebook_offsets)

// One block. start, pieces [K + 1]: the last is the whole.
extern "C" __global__ void __launch_bounds__(CODEBOOK_COLUMNS)
codebook_segments(uint32_t* __restrict__ start, uint32_t* __restrict__ pieces, const uint32_t* __restrict__ counts,
                  const CodebookUpdateParams p) {
  __shared__ uint32_t slots[CODEBOOK_COLUMNS / WARP];
  uint32_t points = 0, blocks = 0;
  for (uint32_t first = 0; first < p.codes; first += CODEBOOK_COLUMNS) {
    const uint32_t k = first + threadIdx.x, count = k < p.codes ? counts[k] : 0;
    uint32_t more_points, more_blocks;
    const uint32_t before = block_scan(count, slots, &more_points);
    const uint32_t piece = block_scan((count + CODEBOOK_PIECE - 1) / CODEBOOK_PIECE, slots, &more_blocks);
    if (k < p.codes) start[k] = points + before, pieces[k] = blocks + piece;
    points += more_points, blocks += more_blocks;
  }
  if (threadIdx.x == 0) start[p.codes] = points, pieces[p.codes] = blocks;
}
SIMT_EXPORT(codebook_segments)

extern "C" __global__ void __launch_bounds__(CODEBOOK_WARPS * 32)
codebook_scatter(uint32_t* __restrict__ order, uint32_t* __restrict__ table, const uint32_t* __restrict__ start,
                 const uint32_t* __restrict__ codes, const CodebookUpdateParams p) {
  const uint32_t lane = threadIdx.x % WARP, chunk = blockIdx.x * CODEBOOK_WARPS + threadIdx.x / WARP;
  if (chunk >= p.chunks) return;
  const uint32_t first = chunk * p.chunk, end = min(p.points - first, p.chunk) + first;
  for (uint32_t at = first; at < end; at += WARP) {
    const uint32_t point = at + lane;
    const uint32_t code = point < end ? codes[point] : p.codes;
    const Peers same = peers(min(code, p.codes));
    uint32_t* next = table + size_t(min(code, p.codes - 1)) * p.chunks + chunk;
    if (code < p.codes) order[start[code] + *next + same.before] = point;
    __syncwarp();  // all have read the counter
    if (code < p.codes && same.before == 0) *next += same.count;
    __syncwarp();
  }
}
SIMT_EXPORT(codebook_scatter)

// A piece × COLUMNS coordinates a block; blocks past the last piece leave.
extern "C" __global__ void __launch_bounds__(CODEBOOK_COLUMNS)
codebook_partial_f32(double* __restrict__ partial, const float* __restrict__ x, const uint32_t* __restrict__ order,
                     const uint32_t* __restrict__ start, const uint32_t* __restrict__ pieces, const CodebookUpdateParams p) {
  __shared__ uint32_t member[CODEBOOK_COLUMNS];
  const uint32_t piece = blockIdx.x, column = blockIdx.y * CODEBOOK_COLUMNS + threadIdx.x;
  if (piece >= pieces[p.codes]) return;
  uint32_t code = 0;  // the last with pieces[code] ≤ piece: an empty one begins where its successor does
  for (uint32_t n = p.codes; n > 1;) {
    const uint32_t half = n / 2;
    if (pieces[code + half] <= piece) code += half, n -= half;
    else n = half;
  }
  const uint32_t first = start[code] + (piece - pieces[code]) * CODEBOOK_PIECE;
  const uint32_t end = min(start[code + 1] - first, uint32_t(CODEBOOK_PIECE)) + first;
  double sum = 0.0;
  for (uint32_t at = first; at < end; at += CODEBOOK_COLUMNS) {
    const uint32_t here = min(end - at, uint32_t(CODEBOOK_COLUMNS));
    if (threadIdx.x < here) member[threadIdx.x] = order[at + threadIdx.x];
    __syncthreads();
    if (column < p.width) {
#pragma unroll 8
      for (uint32_t i = 0; i < here; ++i) sum += double(x[size_t(member[i]) * p.width + column]);
    }
    __syncthreads();  // the next round overwrites the members
  }
  if (column < p.width) partial[size_t(piece) * p.width + column] = sum;
}
SIMT_EXPORT(codebook_partial_f32)

extern "C" __global__ void __launch_bounds__(CODEBOOK_COLUMNS)
codebook_fold_f32(float* __restrict__ centres, const double* __restrict__ partial, const uint32_t* __restrict__ counts,
                  const uint32_t* __restrict__ pieces, const CodebookUpdateParams p) {
  const uint32_t code = blockIdx.x, column = blockIdx.y * CODEBOOK_COLUMNS + threadIdx.x;
  if (column >= p.width || counts[code] == 0) return;  // a codeword without points stays
  double sum = 0.0;
  for (uint32_t piece = pieces[code]; piece < pieces[code + 1]; ++piece) {
    sum += partial[size_t(piece) * p.width + column];
  }
  centres[size_t(code) * p.width + column] = float(sum / double(counts[code]));
}
SIMT_EXPORT(codebook_fold_f32)
