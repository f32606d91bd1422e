// attention_decode: beams over their request's prompt, whose keys they share, and over their own last
// tokens, which they reach through the beams that they descend from. One softmax over both.
//
//   o[r] = Σ_j w_j·v[j]    over all prompt tokens j of r's request, then suffix slabs t < steps at row
//                          path[r, t],    w = softmax(s·q[r]·k)
//
// Shapes     in attention_decode.h
// Tiling     rows are (beam, query head of one kv head), beam by beam, so that a tile of the prompt's keys is
//            read once for all rows of a block, and the blocks of a request stand side by side in the grid
//            and find it in L2. Many: 128 rows, 32 a warp. Few: 32 rows, which all four warps share while
//            each takes a quarter of every tile of keys; they merge in shared memory. The suffix is more
//            tiles of keys, gathered: `steps` rows a beam, of which a row sees its own beam's; a warp skips
//            those of others
// Split      a small grid is cut by keys into parts. Each leaves its share in scratch, and the block that
//            comes last merges them by number (common/ticket.cuh): no second launch. How many parts
//            follows from the shapes alone. The suffix goes with the last part
// Roofline   2·Hkv·D·2 bytes a prompt token, 4·D flop a key, beam and head: tensor cores from W·H / Hkv of
//            about 240 on (H200)
// Edges      no prompt, no suffix, neither (o 0) · rows beyond a tile: computed with zeros, not written ·
//            offsets and steps are read on the device and clamped to the caches; a path that leaves its
//            slab makes its row NaN
// Order      keys go by from the first, quarters and parts are merged by number: runs repeat bit for bit. A
//            row's bits depend on the kernel and the number of parts, not on what the other rows hold
// Reference  engine/src/ops/attention_decode/reference.rs
#include "attention_decode.h"
#include "common/attend.cuh"
#include "common/ticket.cuh"

namespace {
constexpr uint32_t COLUMNS = ATTENTION_DECODE_COLUMNS, THREADS = ATTENTION_DECODE_WARPS * WARP;

// How a block's warps divide its rows and a tile's keys between them.
template <int D> struct Many {
  static constexpr uint32_t ROWS = ATTENTION_DECODE_ROWS, STAGES = 2, SLICE = D > 64 ? 32 : COLUMNS;
  static constexpr bool SHARED_ROWS = false;
};
template <int D> struct Few {
  static constexpr uint32_t ROWS = ATTENTION_DECODE_FEW_ROWS, STAGES = 3, SLICE = COLUMNS / ATTENTION_DECODE_WARPS;
  static constexpr bool SHARED_ROWS = true;
};
constexpr uint32_t BLOCKS = 2;  // of 16 rows a warp
static_assert(Many<64>::ROWS == ATTENTION_DECODE_WARPS * BLOCKS * 16 && Few<64>::ROWS == BLOCKS * 16);
static_assert(ATTENTION_DECODE_BYTES == 2 * (Many<64>::ROWS + 2 * Many<64>::STAGES * COLUMNS));
static_assert(ATTENTION_DECODE_FEW_BYTES == 2 * (Few<64>::ROWS + 2 * Few<64>::STAGES * COLUMNS));

// What a block works on.
template <uint32_t ROWS> struct Place {
  uint32_t group, request, kv_head, part;
  uint32_t first_row, rows;    // of W·group of the request and kv head
  uint32_t first_beam, beams;  // that these rows belong to
  uint32_t begin, end;         // the prompt
  uint32_t steps;

  PRIM Place(const AttentionDecodeParams& p, const uint32_t* bounds) {
    group = p.heads / p.kv_heads;
    const uint32_t all = p.beams * group, tiles = (all + ROWS - 1) / ROWS;
    const uint32_t tile = blockIdx.x, head = tile / tiles;
    part = blockIdx.y;
    kv_head = head % p.kv_heads, request = head / p.kv_heads;
    first_row = tile % tiles * ROWS, rows = min(all - first_row, ROWS);
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
  // Whether a step of a row's path leaves its slab.
  PRIM bool broken(const AttentionDecodeParams& p, const uint32_t* path, uint32_t r) const {
    const uint32_t* of = path + size_t(request * p.beams + first_beam + beam(r)) * p.steps;
    bool out = false;
#pragma unroll 1
    for (uint32_t t = 0; t < steps; ++t) out = out || of[t] >= p.requests * p.beams;
    return out;
  }
};

// Shares of a row, each a sum of weighted values against its own largest score, brought to one measure and added by
// number. measure(i): the largest score and the sum of weights; values(i): four columns.
struct Merged {
  float most, sum;
  float4 y;
};
template <class Measure, class Values> PRIM Merged merge(uint32_t shares, Measure measure, Values values) {
  Merged all{-INFINITY, 0.0f, make_float4(0.0f, 0.0f, 0.0f, 0.0f)};
#pragma unroll 4
  for (uint32_t i = 0; i < shares; ++i) all.most = fmaxf(all.most, measure(i).x);
#pragma unroll 4
  for (uint32_t i = 0; i < shares; ++i) {
    const float2 m = measure(i);
    const float4 x = values(i);
    // A share without keys has −∞, and counts for nothing; where all have, there is nothing to count.
    const float f = m.x == -INFINITY ? 0.0f : exp2_approx((m.x - all.most) * LOG2_E);
    all.sum = fmaf(m.y, f, all.sum);
    all.y.x = fmaf(x.x, f, all.y.x), all.y.y = fmaf(x.y, f, all.y.y);
    all.y.z = fmaf(x.z, f, all.y.z), all.y.w = fmaf(x.w, f, all.y.w);
  }
  return all;
}

PRIM void put_four(bf16* o, const Merged& of) {
  const float f = of.sum == 0.0f ? 0.0f : 1.0f / of.sum;
  *reinterpret_cast<uint2*>(o) = make_uint2(pack_bf16(of.y.x * f, of.y.y * f), pack_bf16(of.y.z * f, of.y.w * f));
}

// Every four columns of a block's rows, dealt out to its threads.
template <int D, class F> PRIM void each_four(uint32_t rows, F f) {
  for (uint32_t i = threadIdx.x; i < rows * (D / 4); i += THREADS) f(i / (D / 4), i % (D / 4) * 4);
}

// Where the parts of a launch leave their shares.
struct Scratch {
  float *partial, *measure;
  uint32_t* ticket;
};

template <int D, template <int> class Shape>
PRIM void decode(bf16* __restrict__ o, const Scratch scratch, const bf16* __restrict__ q,
                 const bf16* __restrict__ prompt_k, const bf16* __restrict__ prompt_v,
                 const bf16* __restrict__ suffix_k, const bf16* __restrict__ suffix_v,
                 const uint32_t* __restrict__ path, const uint32_t* __restrict__ bounds,
                 const AttentionDecodeParams& p) {
  using S = Shape<D>;
  constexpr uint32_t STAGES = S::STAGES, SLICE = S::SLICE;
  DYNAMIC_SHARED(bf16, shared);
  bf16 *const sq = shared, *const sk = sq + S::ROWS * D, *const sv = sk + STAGES * COLUMNS * D;
  const Place<S::ROWS> at(p, bounds);
  const uint32_t prompt_tiles = (at.end - at.begin + COLUMNS - 1) / COLUMNS;
  const uint32_t first_tile = prompt_tiles * at.part / p.parts;
  const uint32_t own_tiles = prompt_tiles * (at.part + 1) / p.parts - first_tile;
  const uint32_t suffix = at.part + 1 == p.parts ? at.beams * at.steps : 0;
  const uint32_t all_tiles = own_tiles + (suffix + COLUMNS - 1) / COLUMNS;

  const auto load = [&](uint32_t i) {
    const size_t kv_width = size_t(p.kv_heads) * D;
    const uint32_t to = i % STAGES * COLUMNS * D, column = at.kv_head * D;
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
    gather_rows<D, S::ROWS, THREADS>(sq, q, [&](uint32_t r) { return r < at.rows ? q + at.row(p, r) * D : nullptr; });
  }
#pragma unroll
  for (uint32_t i = 0; i + 1 < STAGES; ++i) {
    if (i < all_tiles) load(i);
    cp_async_commit();
  }

  const uint32_t warp = threadIdx.x / WARP, lane = lane_id(), warp_row = S::SHARED_ROWS ? 0 : warp * 16 * BLOCKS;
  const bool busy = warp_row < at.rows;
  Attend<D, BLOCKS, SLICE> state;
  state.clear();
  for (uint32_t i = 0; i < all_tiles; ++i) {
    if (i + STAGES - 1 < all_tiles) load(i + STAGES - 1);
    cp_async_commit();
    cp_async_wait<STAGES - 1>();
    __syncthreads();
    if (i == 0) state.keep(sq, warp_row);
    const uint32_t own = S::SHARED_ROWS ? warp * SLICE : 0, beyond = S::SHARED_ROWS ? own + SLICE : COLUMNS;
#pragma unroll 1
    for (uint32_t s = own; s < beyond && busy; s += SLICE) {
      const uint32_t tile = i % STAGES * COLUMNS * D + s * D;
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

  const size_t all_rows = size_t(p.requests) * p.beams * p.heads;
  const auto share = [&](uint32_t part, uint32_t r) { return part * all_rows + at.row(p, r); };
  const auto leave = [&](uint32_t r, uint32_t column, const Merged& of) {
    const size_t to = share(at.part, r);
    *reinterpret_cast<float4*>(scratch.partial + to * D + column) = of.y;
    if (column == 0) *reinterpret_cast<float2*>(scratch.measure + 2 * to) = make_float2(of.most, of.sum);
  };
  if constexpr (S::SHARED_ROWS) {
    // [warps, rows, D] f32 in the place of the keys, padded so that a warp's lanes write to all banks, and
    // [warps, rows] pairs in that of the queries.
    constexpr uint32_t WIDTH = D + 8;
    static_assert(ATTENTION_DECODE_WARPS * S::ROWS * WIDTH * 4 <= 2 * STAGES * COLUMNS * D * sizeof(bf16));
    static_assert(ATTENTION_DECODE_WARPS * 8 <= D * sizeof(bf16));
    float* const values = reinterpret_cast<float*>(sk);
    float2* const measures = reinterpret_cast<float2*>(sq);
#pragma unroll
    for (uint32_t b = 0; b < BLOCKS; ++b) {
#pragma unroll
      for (uint32_t h = 0; h < 2; ++h) {
        const uint32_t r = 16 * b + 8 * h + lane / 4, to = warp * S::ROWS + r;
        const float sum = row_sum(state.sum[b][h]);
        if (lane % 4 == 0) measures[to] = make_float2(state.most[b][h] * p.scale, sum);
#pragma unroll
        for (int j = 0; j < D / 8; ++j) {
          *reinterpret_cast<float2*>(values + to * WIDTH + 8 * j + lane % 4 * 2) =
              make_float2(state.o[b][j][2 * h], state.o[b][j][2 * h + 1]);
        }
      }
    }
    __syncwarp();
    if (warp == 0 && suffix > 0 && lane < at.rows && at.broken(p, path, lane)) measures[lane].y = NAN;
    __syncthreads();
    each_four<D>(at.rows, [&](uint32_t r, uint32_t column) {
      const auto place = [&](uint32_t w) { return w * S::ROWS + r; };
      const Merged of = merge(ATTENTION_DECODE_WARPS, [&](uint32_t w) { return measures[place(w)]; },
                              [&](uint32_t w) { return *reinterpret_cast<float4*>(values + place(w) * WIDTH + column); });
      if (p.parts > 1) leave(r, column, of);
      else put_four(o + at.row(p, r) * D + column, of);
    });
  } else if (busy) {
    float factor[BLOCKS][2];
#pragma unroll
    for (uint32_t b = 0; b < BLOCKS; ++b) {
#pragma unroll
      for (uint32_t h = 0; h < 2; ++h) {
        const uint32_t r = warp_row + 16 * b + 8 * h + lane / 4;
        float sum = row_sum(state.sum[b][h]);
        if (r < at.rows && suffix > 0 && at.broken(p, path, r)) sum = NAN;
        factor[b][h] = sum == 0.0f ? 0.0f : 1.0f / sum;
        if (p.parts > 1 && r < at.rows) {
          const size_t to = share(at.part, r);
          if (lane % 4 == 0) *reinterpret_cast<float2*>(scratch.measure + 2 * to) = make_float2(state.most[b][h] * p.scale, sum);
#pragma unroll
          for (int j = 0; j < D / 8; ++j) {
            *reinterpret_cast<float2*>(scratch.partial + to * D + 8 * j + lane % 4 * 2) =
                make_float2(state.o[b][j][2 * h], state.o[b][j][2 * h + 1]);
          }
        }
      }
    }
    if (p.parts == 1) {
      stage<D, BLOCKS>(sq, warp_row, state.o, [&](int b, int h) { return factor[b][h]; });
      store_rows<D, BLOCKS>(sq, warp_row, [&](uint32_t r) { return r < at.rows ? o + at.row(p, r) * D : nullptr; });
    }
  }

  if (p.parts == 1 || !comes_last(scratch.ticket + blockIdx.x, p.parts, reinterpret_cast<uint32_t*>(shared))) return;
  each_four<D>(at.rows, [&](uint32_t r, uint32_t column) {
    put_four(o + at.row(p, r) * D + column,
             merge(p.parts, [&](uint32_t i) { return *reinterpret_cast<const float2*>(scratch.measure + 2 * share(i, r)); },
                   [&](uint32_t i) { return *reinterpret_cast<const float4*>(scratch.partial + share(i, r) * D + column); }));
  });
}
}  // namespace

#define ATTENTION_DECODE(name, D, Shape)                                                                             \
  extern "C" __global__ void __launch_bounds__(ATTENTION_DECODE_WARPS* WARP, 2) name(                                \
      bf16* o, float* partial, float* measure, uint32_t* ticket, const bf16* q, const bf16* prompt_k,                \
      const bf16* prompt_v, const bf16* suffix_k, const bf16* suffix_v, const uint32_t* path, const uint32_t* bounds, \
      const AttentionDecodeParams p) {                                                                               \
    decode<D, Shape>(o, Scratch{partial, measure, ticket}, q, prompt_k, prompt_v, suffix_k, suffix_v, path, bounds, p); \
  }
ATTENTION_DECODE(attention_decode_bf16_d16, 16, Many)
SIMT_EXPORT(attention_decode_bf16_d16)
ATTENTION_DECODE(attention_decode_bf16_d32, 32, Many)
SIMT_EXPORT(attention_decode_bf16_d32)
ATTENTION_DECODE(attention_decode_bf16_d64, 64, Many)
SIMT_EXPORT(attention_decode_bf16_d64)
ATTENTION_DECODE(attention_decode_bf16_d128, 128, Many)
SIMT_EXPORT(attention_decode_bf16_d128)
ATTENTION_DECODE(attention_decode_few_bf16_d64, 64, Few)
SIMT_EXPORT(attention_decode_few_bf16_d64)
ATTENTION_DECODE(attention_decode_few_bf16_d128, 128, Few)
SIMT_EXPORT(attention_decode_few_bf16_d128)
