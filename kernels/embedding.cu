// embedding: rows of a table by id, and the gradient back into the table.
//
//   y[t, :] = table[id[t], :]        dtable[v, :] += Σ dy[t, :] over the t with id[t] = v
//
// Shapes     table [V, C] f32 or bf16 · id [T] u32 · y, dy [T, C] f32 or bf16 · dtable [V, C] f32 · key, place [T],
//            count [256, tiles], first [T], sum [2·⌈T / PIECE⌉, C] f32 scratch
// Tiling     gather: a warp a token, 8 columns a lane. Backward: positions are sorted by id, 8 bits a pass,
//            stable (count a tile's digits, scan them, scatter); each id's run is cut into pieces of PIECE
//            terms from its own start on, a warp adds a piece's 256 columns; a run of one piece goes straight
//            into dtable, the pieces of longer ones are added in a last launch
// Roofline   memory: forward T·C·(in + out) bytes and T ids; backward T·C·dy's bytes, 8 bytes of dtable for each
//            column of a distinct id, and about 25 bytes a token and pass for the sort
// Edges      an id of V or more: its row of y is NaN, and backward leaves it out (the host checks ids before
//            they reach the device; on it nothing could be reported) · any C; 16-byte accesses where C
//            divides by 8 and the addresses by 16
// Order      a row's terms are added by position in pieces of PIECE, then the pieces in order: runs repeat
//            bit for bit and a row does not depend on the other ids of the batch. Atomics count integers alone
// Reference  engine/src/ops/embedding/reference.rs
#include "embedding.h"
#include "common/vector.cuh"

constexpr uint32_t EMBEDDING_WARPS = EMBEDDING_THREADS / WARP;
static_assert(EMBEDDING_PIECE == 2 * WARP, "a lane looks at two terms of a piece");

template <class X, class Y>
PRIM void embedding_forward(Y* __restrict__ y, const X* __restrict__ table, const uint32_t* __restrict__ id,
                            const EmbeddingParams& p) {
  const uint32_t token = blockIdx.x * EMBEDDING_WARPS + threadIdx.x / WARP;
  if (token >= p.tokens) return;
  const uint32_t row = id[token];
  const bool fast = p.width % VEC == 0 && aligned(y) && aligned(table);
#pragma unroll 4
  for (uint32_t c = threadIdx.x % WARP * VEC; c < p.width; c += WARP * VEC) {
    float v[VEC];
    if (row < p.vocab) {
      load8(v, table + size_t(row) * p.width + c, p.width - c, fast);
    } else {
      for (uint32_t i = 0; i < VEC; ++i) v[i] = __uint_as_float(0x7fffffffu);
    }
    store8(y + size_t(token) * p.width + c, v, p.width - c, fast);
  }
}

extern "C" __global__ void __launch_bounds__(EMBEDDING_THREADS)
embedding_forward_f32(float* __restrict__ y, const float* __restrict__ table,
                      const uint32_t* __restrict__ id, const EmbeddingParams p) {
  embedding_forward(y, table, id, p);
}
SIMT_EXPORT(embedding_forward_f32)

extern "C" __global__ void __launch_bounds__(EMBEDDING_THREADS)
embedding_forward_f32_bf16(bf16* __restrict__ y, const float* __restrict__ table,
                           const uint32_t* __restrict__ id, const EmbeddingParams p) {
  embedding_forward(y, table, id, p);
}
SIMT_EXPORT(embedding_forward_f32_bf16)

extern "C" __global__ void __launch_bounds__(EMBEDDING_THREADS)
embedding_forward_bf16_f32(float* __restrict__ y, const bf16* __restrict__ table,
                           const uint32_t* __restrict__ id, const EmbeddingParams p) {
  embedding_forward(y, table, id, p);
}
SIMT_EXPORT(embedding_forward_bf16_f32)

extern "C" __global__ void __launch_bounds__(EMBEDDING_THREADS)
embedding_forward_bf16(bf16* __restrict__ y, const bf16* __restrict__ table,
                       const uint32_t* __restrict__ id, const EmbeddingParams p) {
  embedding_forward(y, table, id, p);
}
SIMT_EXPORT(embedding_forward_bf16)

// What a token is sorted by: its id, all that are none behind the last.
PRIM uint32_t embedding_digit(uint32_t key, const EmbeddingParams& p) {
  return min(key, p.vocab) >> p.shift & (EMBEDDING_DIGITS - 1);
}

// The lanes, of those that are live, with the same digit. The whole warp must arrive.
PRIM uint32_t embedding_peers(uint32_t digit, bool live) {
  uint32_t peers = __ballot_sync(ALL_LANES, live);
#pragma unroll
  for (uint32_t bit = 1; bit < EMBEDDING_DIGITS; bit *= 2) {
    const uint32_t set = __ballot_sync(ALL_LANES, (digit & bit) != 0);
    peers &= digit & bit ? set : ~set;
  }
  return peers;
}

// count[digit, tile] ← how many of the tile's keys have that digit.
extern "C" __global__ void __launch_bounds__(EMBEDDING_SORT)
embedding_count(uint32_t* __restrict__ count, const uint32_t* __restrict__ key, const EmbeddingParams p) {
  __shared__ uint32_t bin[EMBEDDING_DIGITS];
  if (threadIdx.x < EMBEDDING_DIGITS) bin[threadIdx.x] = 0;
  __syncthreads();
  const uint32_t t = blockIdx.x * EMBEDDING_SORT + threadIdx.x;
  const bool live = t < p.tokens;
  const uint32_t digit = embedding_digit(live ? key[t] : 0, p), peers = embedding_peers(digit, live);
  // One addition a warp and digit: of a small vocabulary the upper digits are all the same.
  const bool leads = (peers & ((1u << threadIdx.x % WARP) - 1)) == 0;
  if (live && leads) atomicAdd(&bin[digit], uint32_t(__popc(peers)));
  __syncthreads();
  if (threadIdx.x < EMBEDDING_DIGITS) count[threadIdx.x * gridDim.x + blockIdx.x] = bin[threadIdx.x];
}
SIMT_EXPORT(embedding_count)

// count ← its exclusive prefix sums over all 256·tiles, by one block.
extern "C" __global__ void __launch_bounds__(EMBEDDING_SORT)
embedding_scan(uint32_t* __restrict__ count, const EmbeddingParams p) {
  __shared__ uint32_t sums[EMBEDDING_SORT / WARP];
  const uint32_t tiles = (p.tokens + EMBEDDING_SORT - 1) / EMBEDDING_SORT, n = tiles * EMBEDDING_DIGITS;
  const uint32_t each = (n + EMBEDDING_SORT - 1) / EMBEDDING_SORT, lane = threadIdx.x % WARP;
  const uint32_t from = min(threadIdx.x * each, n), to = min(from + each, n);
  uint32_t sum = 0;
  for (uint32_t i = from; i < to; ++i) sum += count[i];
  uint32_t upto = sum;  // inclusive over the warp, then over the block
  for (uint32_t step = 1; step < WARP; step *= 2) {
    const uint32_t below = __shfl_up_sync(ALL_LANES, upto, step);
    if (lane >= step) upto += below;
  }
  if (lane == WARP - 1) sums[threadIdx.x / WARP] = upto;
  __syncthreads();
  uint32_t before = upto - sum;
  for (uint32_t w = 0; w < threadIdx.x / WARP; ++w) before += sums[w];
  for (uint32_t i = from; i < to; ++i) {
    const uint32_t here = count[i];
    count[i] = before;
    before += here;
  }
}
SIMT_EXPORT(embedding_scan)

// Moves keys and places to where the scanned counts say, those of one digit in the order that they had.
// The first pass numbers the places itself and reads none.
extern "C" __global__ void __launch_bounds__(EMBEDDING_SORT)
embedding_scatter(uint32_t* __restrict__ key_to, uint32_t* __restrict__ place_to,
                  const uint32_t* __restrict__ key, const uint32_t* __restrict__ place,
                  const uint32_t* __restrict__ count, const EmbeddingParams p) {
  constexpr uint32_t WARPS = EMBEDDING_SORT / WARP;
  __shared__ uint32_t bin[WARPS][EMBEDDING_DIGITS];
  const uint32_t warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
  for (uint32_t i = lane; i < EMBEDDING_DIGITS; i += WARP) bin[warp][i] = 0;
  __syncwarp();
  const uint32_t t = blockIdx.x * EMBEDDING_SORT + threadIdx.x;
  const bool live = t < p.tokens;
  const uint32_t k = live ? key[t] : 0, digit = embedding_digit(k, p);
  const uint32_t peers = embedding_peers(digit, live);
  const uint32_t rank = __popc(peers & ((1u << lane) - 1));
  if (live && rank == 0) bin[warp][digit] = __popc(peers);
  __syncthreads();
  if (threadIdx.x < EMBEDDING_DIGITS) {  // each warp's start within the digit
    uint32_t before = count[threadIdx.x * gridDim.x + blockIdx.x];
    for (uint32_t w = 0; w < WARPS; ++w) {
      const uint32_t here = bin[w][threadIdx.x];
      bin[w][threadIdx.x] = before;
      before += here;
    }
  }
  __syncthreads();
  if (!live) return;
  const uint32_t to = bin[warp][digit] + rank;
  key_to[to] = k;
  place_to[to] = p.shift == 0 ? t : place[t];
}
SIMT_EXPORT(embedding_scatter)

// first[i] ← where the run of key[i] starts, by bisection of the sorted keys.
extern "C" __global__ void __launch_bounds__(EMBEDDING_THREADS)
embedding_runs(uint32_t* __restrict__ first, const uint32_t* __restrict__ key, const EmbeddingParams p) {
  const uint32_t i = blockIdx.x * EMBEDDING_THREADS + threadIdx.x;
  if (i >= p.tokens) return;
  const uint32_t k = min(key[i], p.vocab);
  uint32_t low = 0, high = i;  // key[high] is k; what lies below `low` is less
  while (low < high) {
    const uint32_t middle = low + (high - low) / 2;
    if (min(key[middle], p.vocab) < k) low = middle + 1;
    else high = middle;
  }
  first[i] = low;
}
SIMT_EXPORT(embedding_runs)

// Where the sum of the piece that starts at i lies: in a window of PIECE positions at most one run of
// several pieces starts, and at most one such run goes on.
PRIM size_t embedding_slot(uint32_t i, bool goes_on) { return 2 * size_t(i / EMBEDDING_PIECE) + goes_on; }

// A warp a sorted position: one that a piece starts at adds it up, into dtable where it is the whole run.
template <class DY>
PRIM void embedding_pieces(float* __restrict__ dtable, float* __restrict__ sum,
                           const uint32_t* __restrict__ key, const uint32_t* __restrict__ place,
                           const uint32_t* __restrict__ first, const DY* __restrict__ dy,
                           const EmbeddingParams& p) {
  const uint32_t i = blockIdx.x * EMBEDDING_WARPS + threadIdx.x / WARP;
  if (i >= p.tokens) return;
  const uint32_t k = key[i], start = first[i];
  if ((i - start) % EMBEDDING_PIECE != 0 || k >= p.vocab) return;
  // Terms of the piece, which are PIECE where more of the run may follow.
  const uint32_t a = i + threadIdx.x % WARP, b = a + WARP;
  const uint32_t len = __popc(__ballot_sync(ALL_LANES, a < p.tokens && first[a] == start)) +
                       __popc(__ballot_sync(ALL_LANES, b < p.tokens && first[b] == start));
  const uint32_t c = blockIdx.y * EMBEDDING_COLUMNS + threadIdx.x % WARP * VEC;
  if (c >= p.width) return;
  const bool fast = p.width % VEC == 0 && aligned(dtable) && aligned(sum) && aligned(dy);
  const uint32_t n = p.width - c;
  float total[VEC] = {}, v[VEC];
#pragma unroll 4
  for (uint32_t j = 0; j < len; ++j) {
    load8(v, dy + size_t(place[i + j]) * p.width + c, n, fast);
#pragma unroll
    for (uint32_t e = 0; e < VEC; ++e) total[e] += v[e];
  }
  const bool goes_on = i > start, more = i + len < p.tokens && first[i + len] == start;
  if (goes_on || more) {
    store8(sum + embedding_slot(i, goes_on) * p.width + c, total, n, fast);
    return;
  }
  float* row = dtable + size_t(k) * p.width + c;
  load8(v, row, n, fast);
#pragma unroll
  for (uint32_t e = 0; e < VEC; ++e) v[e] += total[e];
  store8(row, v, n, fast);
}

extern "C" __global__ void __launch_bounds__(EMBEDDING_THREADS)
embedding_pieces_f32(float* __restrict__ dtable, float* __restrict__ sum, const uint32_t* __restrict__ key,
                     const uint32_t* __restrict__ place, const uint32_t* __restrict__ first,
                     const float* __restrict__ dy, const EmbeddingParams p) {
  embedding_pieces(dtable, sum, key, place, first, dy, p);
}
SIMT_EXPORT(embedding_pieces_f32)

extern "C" __global__ void __launch_bounds__(EMBEDDING_THREADS)
embedding_pieces_bf16(float* __restrict__ dtable, float* __restrict__ sum, const uint32_t* __restrict__ key,
                      const uint32_t* __restrict__ place, const uint32_t* __restrict__ first,
                      const bf16* __restrict__ dy, const EmbeddingParams p) {
  embedding_pieces(dtable, sum, key, place, first, dy, p);
}
SIMT_EXPORT(embedding_pieces_bf16)

// dtable += the sums of a run's pieces, in order: a warp a start of such a run.
extern "C" __global__ void __launch_bounds__(EMBEDDING_THREADS)
embedding_long_runs(float* __restrict__ dtable, const float* __restrict__ sum,
                    const uint32_t* __restrict__ key, const uint32_t* __restrict__ first,
                    const EmbeddingParams p) {
  const uint32_t i = blockIdx.x * EMBEDDING_WARPS + threadIdx.x / WARP;
  if (i >= p.tokens) return;
  const uint32_t k = key[i];
  if (first[i] != i || k >= p.vocab) return;
  if (i + EMBEDDING_PIECE >= p.tokens || first[i + EMBEDDING_PIECE] != i) return;  // of one piece
  const uint32_t c = blockIdx.y * EMBEDDING_COLUMNS + threadIdx.x % WARP * VEC;
  if (c >= p.width) return;
  uint32_t end = i + EMBEDDING_PIECE, beyond = p.tokens;  // first[end] is i, at `beyond` it is not
  while (beyond - end > 1) {
    const uint32_t middle = end + (beyond - end) / 2;
    if (first[middle] == i) end = middle;
    else beyond = middle;
  }
  const bool fast = p.width % VEC == 0 && aligned(dtable) && aligned(sum);
  const uint32_t n = p.width - c;
  float* row = dtable + size_t(k) * p.width + c;
  float total[VEC], v[VEC];
  load8(total, row, n, fast);
#pragma unroll 4
  for (uint32_t j = i; j < beyond; j += EMBEDDING_PIECE) {
    load8(v, sum + embedding_slot(j, j > i) * p.width + c, n, fast);
#pragma unroll
    for (uint32_t e = 0; e < VEC; ++e) total[e] += v[e];
  }
  store8(row, total, n, fast);
}
SIMT_EXPORT(embedding_long_runs)
