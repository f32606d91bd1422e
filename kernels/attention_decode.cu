// attention_decode: beams over their request's prompt, whose keys they share, and over their own last
// tokens, which they reach through the beams that they descend from. One softmax over both.
//
//   o[r] = Σ_j w_j·v[j]    over all prompt tokens j of r's request, then suffix slabs t < steps at row
//                          path[r, t],    w = softmax(s·q[r]·k)
//
// Shapes     in attention_decode.h
// Tiling     a block takes ROWS rows of (beam, query head of one kv head), beam by beam, so that a tile of
//            the prompt's keys is read once for all of them, and the tiles of rows of a request stand side
//            by side in the grid and find it in L2. The suffix is more tiles of keys, gathered: `steps`
//            rows a beam, of which a row sees its own beam's; a warp skips those of others
// Split      a grid of few blocks is cut by keys into parts, which a second kernel merges in order; how
//            many follows from the shapes alone. The suffix goes with the last part
// Roofline   2·Hkv·D·2 bytes a prompt token, 4·D flop a key, beam and head: tensor cores from W·H / Hkv of
//            about 240 on (H200)
// Edges      no prompt, no suffix, neither (o 0) · rows beyond a tile: computed with zeros, not written ·
//            offsets and steps are read on the device and clamped to the caches; a path that leaves its
//            slab makes its row NaN
// Order      keys go by from the first, parts are merged by number: runs repeat bit for bit. A row's bits
//            depend on the number of parts, not on what the other rows hold
// Reference  engine/src/ops/attention_decode/reference.rs
#include "attention_decode.h"
#include "common/attend.cuh"

namespace {
// What a block works on.
struct Place {
  uint32_t group, request, kv_head, part;
  uint32_t first_row, rows;    // of W·group of the request and kv head
  uint32_t first_beam, beams;  // that these rows belong to
  uint32_t begin, end;         // the prompt
  uint32_t steps;

  PRIM Place(const AttentionDecodeParams& p, const uint32_t* bounds) {
    group = p.heads / p.kv_heads;
    const uint32_t all = p.beams * group, tiles = (all + ATTENTION_DECODE_ROWS - 1) / ATTENTION_DECODE_ROWS;
    part = blockIdx.x % p.parts;
    const uint32_t tile = blockIdx.x / p.parts % tiles, head = blockIdx.x / p.parts / tiles;
    kv_head = head % p.kv_heads, request = head / p.kv_heads;
    first_row = tile * ATTENTION_DECODE_ROWS, rows = min(all - first_row, uint32_t(ATTENTION_DECODE_ROWS));
    first_beam = first_row / group, beams = (first_row + rows - 1) / group - first_beam + 1;
    end = min(bounds[request + 1], p.keys), begin = min(bounds[request], end);
    steps = min(bounds[p.requests + 1], p.steps);
  }
  // The beam of a row of the tile, counted from the first.
  PRIM uint32_t beam(uint32_t r) const { return (first_row + r) / group - first_beam; }
  // Its row of q and o seen as [B·W·H, D].
  PRIM size_t row(const AttentionDecodeParams& p, uint32_t r) const {
    const uint32_t at = first_row + r;
    return size_t(request * p.beams + at / group) * p.heads + kv_head * group + at % group;
  }
};

template <int D>
PRIM void decode(bf16* __restrict__ o, float* __restrict__ partial, float* __restrict__ measure,
                 const bf16* __restrict__ q, const bf16* __restrict__ prompt_k,
                 const bf16* __restrict__ prompt_v, const bf16* __restrict__ suffix_k,
                 const bf16* __restrict__ suffix_v, const uint32_t* __restrict__ path,
                 const uint32_t* __restrict__ bounds, const AttentionDecodeParams& p) {
  constexpr uint32_t ROWS = ATTENTION_DECODE_ROWS, COLUMNS = ATTENTION_DECODE_COLUMNS;
  constexpr uint32_t THREADS = ATTENTION_DECODE_WARPS * WARP, BLOCKS = ROWS / ATTENTION_DECODE_WARPS / 16;
  constexpr uint32_t SLICE = D > 64 ? 32 : COLUMNS;
  DYNAMIC_SHARED(bf16, shared);
  bf16 *const sq = shared, *const sk = sq + ROWS * D, *const sv = sk + 2 * COLUMNS * D;
  const Place at(p, bounds);
  const uint32_t prompt_tiles = (at.end - at.begin + COLUMNS - 1) / COLUMNS;
  const uint32_t first_tile = prompt_tiles * at.part / p.parts;
  const uint32_t own_tiles = prompt_tiles * (at.part + 1) / p.parts - first_tile;
  const uint32_t suffix = at.part + 1 == p.parts ? at.beams * at.steps : 0;
  const uint32_t all_tiles = own_tiles + (suffix + COLUMNS - 1) / COLUMNS;

  const auto load = [&](uint32_t i) {
    const size_t kv_width = size_t(p.kv_heads) * D;
    const uint32_t to = i % 2 * COLUMNS * D, column = at.kv_head * D;
    if (i < own_tiles) {
      const uint32_t first = at.begin + (first_tile + i) * COLUMNS;
      const size_t from = first * kv_width + column;
      load_rows<D, COLUMNS, THREADS>(sk + to, prompt_k + from, kv_width, at.end - first);
      load_rows<D, COLUMNS, THREADS>(sv + to, prompt_v + from, kv_width, at.end - first);
      return;
    }
    const uint32_t first = (i - own_tiles) * COLUMNS, slab = p.requests * p.beams;
    const uint32_t beam = at.request * p.beams + at.first_beam;
    const auto of = [&](const bf16* x) {
      return [=](uint32_t r) -> const bf16* {
        if (first + r >= suffix) return nullptr;
        const uint32_t step = (first + r) % at.steps;
        const uint32_t row = path[size_t(beam + (first + r) / at.steps) * p.steps + step];
        return row < slab ? x + (size_t(step) * slab + row) * kv_width + column : nullptr;
      };
    };
    gather_rows<D, COLUMNS, THREADS>(sk + to, suffix_k, of(suffix_k));
    gather_rows<D, COLUMNS, THREADS>(sv + to, suffix_v, of(suffix_v));
  };
  if (all_tiles > 0) {
    gather_rows<D, ROWS, THREADS>(sq, q, [&](uint32_t r) { return r < at.rows ? q + at.row(p, r) * D : nullptr; });
    load(0);
  }
  cp_async_commit();

  const uint32_t warp_row = threadIdx.x / WARP * 16 * BLOCKS, lane = lane_id();
  const bool busy = warp_row < at.rows;
  Attend<D, BLOCKS, SLICE> state;
  state.clear();
  for (uint32_t i = 0; i < all_tiles; ++i) {
    if (i + 1 < all_tiles) load(i + 1);
    cp_async_commit();
    cp_async_wait<1>();
    __syncthreads();
    if (i == 0) state.keep(sq, warp_row);
#pragma unroll 1
    for (uint32_t s = 0; s < COLUMNS && busy; s += SLICE) {
      const uint32_t tile = i % 2 * COLUMNS * D + s * D;
      const bool prompt = i < own_tiles;
      const uint32_t first = (prompt ? first_tile + i : i - own_tiles) * COLUMNS + s;
      // Keys from `low` to `low + span` are seen: all of the prompt's, or those of the row's beam.
      const uint32_t span = prompt ? at.end - at.begin : at.steps;
      const auto low = [&](uint32_t r) { return prompt ? 0 : at.beam(warp_row + r) * span; };
      const uint32_t lowest = low(0), above = low(min(16 * BLOCKS, at.rows - warp_row) - 1) + span;
      if (first >= above || first + SLICE <= lowest) continue;
      state.take(sq, warp_row, sk + tile, sv + tile, p.scale * LOG2_E, prompt && first + SLICE <= span,
                 [&](int b, int h, uint32_t j) { return first + j - low(16 * b + 8 * h + lane / 4) < span; });
    }
    __syncthreads();  // the next round's copies overwrite this round's tiles
  }
  if (!busy) return;

  float factor[BLOCKS][2];
#pragma unroll
  for (uint32_t b = 0; b < BLOCKS; ++b) {
#pragma unroll
    for (uint32_t h = 0; h < 2; ++h) {
      const uint32_t r = warp_row + 16 * b + 8 * h + lane / 4;
      float sum = row_sum(state.sum[b][h]);
      if (r < at.rows && suffix > 0) {
        const uint32_t* steps = path + size_t(at.request * p.beams + at.first_beam + at.beam(r)) * p.steps;
        for (uint32_t t = 0; t < at.steps; ++t) sum = steps[t] < p.requests * p.beams ? sum : NAN;
      }
      factor[b][h] = sum == 0.0f ? 0.0f : 1.0f / sum;
      if (p.parts > 1 && r < at.rows) {
        const size_t rows = size_t(p.requests) * p.beams * p.heads, to = at.part * rows + at.row(p, r);
        if (lane % 4 == 0) measure[2 * to] = state.most[b][h] * p.scale, measure[2 * to + 1] = sum;
#pragma unroll
        for (int j = 0; j < D / 8; ++j) {
          *reinterpret_cast<float2*>(partial + to * D + 8 * j + lane % 4 * 2) =
              make_float2(state.o[b][j][2 * h], state.o[b][j][2 * h + 1]);
        }
      }
    }
  }
  if (p.parts > 1) return;
  stage<D, BLOCKS>(sq, warp_row, state.o, [&](int b, int h) { return factor[b][h]; });
  store_rows<D, BLOCKS>(sq, warp_row, [&](uint32_t r) { return r < at.rows ? o + at.row(p, r) * D : nullptr; });
}
}  // namespace

#define ATTENTION_DECODE(D)                                                                              \
  extern "C" __global__ void __launch_bounds__(ATTENTION_DECODE_WARPS* WARP, 2) attention_decode_bf16_d##D( \
      bf16* o, float* partial, float* measure, const bf16* q, const bf16* prompt_k, const bf16* prompt_v,    \
      const bf16* suffix_k, const bf16* suffix_v, const uint32_t* path, const uint32_t* bounds,              \
      const AttentionDecodeParams p) {                                                                       \
    decode<D>(o, partial, measure, q, prompt_k, prompt_v, suffix_k, suffix_v, path, bounds, p);              \
  }
ATTENTION_DECODE(16)
ATTENTION_DECODE(32)
ATTENTION_DECODE(64)
ATTENTION_DECODE(128)
SIMT_EXPORT(attention_decode_bf16_d16)
SIMT_EXPORT(attention_decode_bf16_d32)
SIMT_EXPORT(attention_decode_bf16_d64)
SIMT_EXPORT(attention_decode_bf16_d128)

// o ← the parts, each in its own measure (largest scaled score, sum), brought to one.
extern "C" __global__ void __launch_bounds__(ATTENTION_DECODE_MERGE)
attention_decode_merge_bf16(bf16* __restrict__ o, const float* __restrict__ partial,
                            const float* __restrict__ measure, const AttentionDecodeParams p) {
  const size_t rows = size_t(p.requests) * p.beams * p.heads;
  const size_t at = (size_t(blockIdx.x) * ATTENTION_DECODE_MERGE + threadIdx.x) * 4, row = at / p.head_dim;
  if (row >= rows) return;
  float most = -INFINITY, sum = 0.0f, y[4] = {};
  for (uint32_t i = 0; i < p.parts; ++i) most = fmaxf(most, measure[2 * (i * rows + row)]);
  for (uint32_t i = 0; i < p.parts; ++i) {
    const float* m = measure + 2 * (i * rows + row);
    const float4 x = *reinterpret_cast<const float4*>(partial + i * rows * p.head_dim + at);
    // A part without keys has −∞, and counts for nothing; where all have, there is nothing to count.
    const float f = m[0] == -INFINITY ? 0.0f : exp2_approx((m[0] - most) * LOG2_E);
    sum = fmaf(m[1], f, sum);
    y[0] = fmaf(x.x, f, y[0]), y[1] = fmaf(x.y, f, y[1]);
    y[2] = fmaf(x.z, f, y[2]), y[3] = fmaf(x.w, f, y[3]);
  }
  const float f = sum == 0.0f ? 0.0f : 1.0f / sum;
  uint2 packed;
  packed.x = pack_bf16(y[0] * f, y[1] * f), packed.y = pack_bf16(y[2] * f, y[3] * f);
  *reinterpret_cast<uint2*>(o + at) = packed;
}
SIMT_EXPORT(attention_decode_merge_bf16)
