// attention: causal, over packed segments of different lengths, grouped heads (FlashAttention-2, Dao 2023).
//
//   o[i] = Σ_j p[i, j]·v[j]    p[i, j] = exp(s·q[i]·k[j] − lse[i])    lse[i] = ln Σ_j exp(s·q[i]·k[j])
//
// over the keys j of i's segment up to i's own: queries stand at the end of their segment's keys. Backward
// takes p again from lse; with delta[i] = o[i]·d_o[i] and ds[i, j] = p[i, j]·(d_o[i]·v[j] − delta[i]):
//
//   dv[j] = Σ_i p[i, j]·d_o[i]      dk[j] = s·Σ_i ds[i, j]·q[i]      dq[i] = s·Σ_j ds[i, j]·k[j]
//
// Kernels named `branching` take segments that are a prompt and the answers to it: a row of an answer sees the prompt's keys
// and its own answer's up to itself. `from`, a number a row of q, is the row of k at which its answer begins.
//
// Shapes     q, o, d_o, dq [T, H·D] · k, v, dk, dv [S, Hkv·D] bf16 · lse, delta [T, H] f32 · tiles: lists
//            in device memory
// Tiling     forward: ROWS queries of a head a block, 32 a warp, so that an operand of keys or values read
//            from shared memory serves two mma; COLUMNS keys and values go by at a time, the next ones
//            on their way (cp.async). D ≤ 64: queries in registers; D 128: keys weighed 32 at a time,
//            else a warp's 128 f32 of o beside 64 of scores would spill
//            backward: delta, then dk and dv by ROWS keys over the group's heads and queries, then dq by
//            ROWS queries over keys. Seven products where five would do, for no sum is shared by blocks
// Roofline   tensor cores: 4·D flop a visible pair and head, backward 10·D of 14·D that it does; ldmatrix
//            keeps 0.6–0.75 of the pace of mma.sync, 1.2 of it in backward of D 128
// Branching  a tile of answers takes the prompt's keys whole, then those from its first row's answer on, masked to either
//            side; the prompt's keys are seen by all queries behind them as ever
// Edges      tiles that a warp's rows cannot see are skipped, masks only on the diagonal · rows of no
//            segment (keys 0): o 0, lse −∞ · list entries without rows are skipped: the grid follows
//            from the list's capacity, so that a captured launch serves other lengths
// Order      tiles start where segments do, keys go by from the first, heads and queries likewise: no atomics,
//            runs repeat bit for bit and a row's bits do not depend on its neighbours. Lists are longest
//            first, for the grid's tail
// Reference  engine/src/ops/attention/reference.rs
#include "attention.h"
#include "common/attend.cuh"

namespace {
// Rounds of a tile's keys; BRANCHING false: known to be one run of keys.
template <bool BRANCHING> PRIM Rounds<ATTENTION_COLUMNS> rounds_of(const AttentionQueryTile& t) {
  return BRANCHING ? Rounds<ATTENTION_COLUMNS>(t.shared, t.own, t.keys) : Rounds<ATTENTION_COLUMNS>(0, 0, t.keys);
}

// What the rows of a warp see of a tile's keys: row r those up to `first_sees` + r, in an answer from `from` on.
template <int BLOCKS, bool BRANCHING> struct Sight {
  uint32_t first_sees, last_sees;  // the last key that the warp's first and its last row see
  uint32_t from[BLOCKS][2], latest;  // of the thread's rows; of the warp's last

  PRIM Sight(const AttentionQueryTile& t, uint32_t warp_row, const uint32_t* branches) {
    first_sees = t.keys - t.queries + warp_row;
    last_sees = t.keys - t.queries + min(warp_row + 16 * BLOCKS, t.queries) - 1;
    latest = 0;
    if constexpr (BRANCHING) {
      const auto branch = [&](uint32_t r) { return t.keys > 0 ? branches[t.query + min(r, t.queries - 1)] - t.key : 0; };
#pragma unroll
      for (int b = 0; b < BLOCKS; ++b) {
#pragma unroll
        for (int h = 0; h < 2; ++h) from[b][h] = branch(warp_row + 16 * b + 8 * h + lane_id() / 4);
      }
      latest = branch(warp_row + 16 * BLOCKS - 1);
    }
  }
  // Whether no row sees any of the keys from `first` on that belong to a round which ends before `end`.
  PRIM bool nothing(uint32_t first, uint32_t end) const { return first > last_sees || (BRANCHING && first >= end); }
  // Whether every row sees the `count` keys from `first` on.
  PRIM bool whole(uint32_t first, uint32_t count, bool in_prompt, uint32_t end) const {
    if (BRANCHING && in_prompt) return first + count <= end;
    return first + count - 1 <= first_sees && (!BRANCHING || first >= latest);
  }
  // Whether the thread's row (b, h) sees key `j`.
  PRIM bool sees(int b, int h, uint32_t j, bool in_prompt, uint32_t end) const {
    if (BRANCHING && in_prompt) return j < end;
    return j <= first_sees + 16 * b + 8 * h + lane_id() / 4 && (!BRANCHING || j >= from[b][h]);
  }
};

template <int D, bool BRANCHING>
PRIM void forward(bf16* __restrict__ o, float* __restrict__ lse, const bf16* __restrict__ q,
                  const bf16* __restrict__ k, const bf16* __restrict__ v,
                  const AttentionQueryTile* __restrict__ tiles, const uint32_t* __restrict__ branches,
                  const AttentionParams& p) {
  constexpr uint32_t ROWS = ATTENTION_ROWS, COLUMNS = ATTENTION_COLUMNS, BLOCKS = ROWS / ATTENTION_WARPS / 16;
  constexpr uint32_t THREADS = ATTENTION_WARPS * WARP, SLICE = D > 64 ? 32 : COLUMNS;
  const AttentionQueryTile t = tiles[blockIdx.x / p.heads];
  if (t.queries == 0) return;
  DYNAMIC_SHARED(bf16, shared);
  bf16 *const sq = shared, *const sk = sq + ROWS * D, *const sv = sk + 2 * COLUMNS * D;
  const uint32_t head = blockIdx.x % p.heads, kv_head = head / (p.heads / p.kv_heads);
  const size_t width = size_t(p.heads) * D, kv_width = size_t(p.kv_heads) * D;
  const size_t at_query = t.query * width + head * D, at_key = t.key * kv_width + kv_head * D;

  const auto rounds = rounds_of<BRANCHING>(t);
  const uint32_t steps = rounds.count;
  const auto load = [&](uint32_t step) {
    const uint32_t first = rounds.first(step), left = rounds.end(step) - first, to = step % 2 * COLUMNS * D;
    const size_t from = at_key + first * kv_width;
    load_rows<D, COLUMNS, THREADS>(sk + to, k + from, kv_width, left);
    load_rows<D, COLUMNS, THREADS>(sv + to, v + from, kv_width, left);
  };
  if (steps > 0) {
    load_rows<D, ROWS, THREADS>(sq, q + at_query, width, t.queries);
    load(0);
  }
  cp_async_commit();

  const uint32_t warp_row = threadIdx.x / WARP * 16 * BLOCKS, lane = lane_id();
  const bool busy = warp_row < t.queries;
  const Sight<BLOCKS, BRANCHING> sight(t, warp_row, branches);
  Attend<D, BLOCKS, SLICE> state;
  state.clear();
  for (uint32_t i = 0; i < steps; ++i) {
    if (i + 1 < steps) load(i + 1);
    cp_async_commit();
    cp_async_wait<1>();
    __syncthreads();
    if (i == 0) state.keep(sq, warp_row);
#pragma unroll 1
    for (uint32_t s = 0; s < COLUMNS; s += SLICE) {
      const uint32_t first = rounds.first(i) + s, at = (i % 2 * COLUMNS + s) * D, end = rounds.end(i);
      const bool in_prompt = rounds.in_prompt(i);
      if (!busy || sight.nothing(first, end)) break;
      state.take(sq, warp_row, sk + at, sv + at, p.scale * LOG2_E, sight.whole(first, SLICE, in_prompt, end),
                 [&](int b, int h, uint32_t j) { return sight.sees(b, h, first + j, in_prompt, end); });
    }
    __syncthreads();  // the next round's copies overwrite this round's tiles
  }
  if (!busy) return;

  float inverse[BLOCKS][2];
#pragma unroll
  for (uint32_t b = 0; b < BLOCKS; ++b) {
#pragma unroll
    for (uint32_t h = 0; h < 2; ++h) {
      const float sum = row_sum(state.sum[b][h]);
      inverse[b][h] = sum > 0.0f ? 1.0f / sum : 0.0f;
      const uint32_t r = warp_row + 16 * b + 8 * h + lane / 4;
      if (lane % 4 == 0 && r < t.queries) {
        lse[size_t(t.query + r) * p.heads + head] = state.most[b][h] * p.scale + logf(sum);
      }
    }
  }
  stage<D, BLOCKS>(sq, warp_row, state.o, [&](int b, int h) { return inverse[b][h]; });
  store_rows<D, BLOCKS>(sq, warp_row, [&](uint32_t r) { return r < t.queries ? o + at_query + r * width : nullptr; });
}
}  // namespace

#define ATTENTION_FORWARD(D)                                                                            \
  extern "C" __global__ void __launch_bounds__(ATTENTION_WARPS* WARP, 2) attention_forward_bf16_d##D(    \
      bf16* o, float* lse, const bf16* q, const bf16* k, const bf16* v, const AttentionQueryTile* tiles, \
      const AttentionParams p) {                                                                         \
    forward<D, false>(o, lse, q, k, v, tiles, nullptr, p);                                               \
  }                                                                                                      \
  extern "C" __global__ void __launch_bounds__(ATTENTION_WARPS* WARP, 2) attention_forward_branching_bf16_d##D( \
      bf16* o, float* lse, const bf16* q, const bf16* k, const bf16* v, const AttentionQueryTile* tiles, \
      const uint32_t* from, const AttentionParams p) {                                                   \
    forward<D, true>(o, lse, q, k, v, tiles, from, p);                                                   \
  }
ATTENTION_FORWARD(16)
ATTENTION_FORWARD(32)
ATTENTION_FORWARD(64)
ATTENTION_FORWARD(128)
SIMT_EXPORT(attention_forward_bf16_d16)
SIMT_EXPORT(attention_forward_bf16_d32)
SIMT_EXPORT(attention_forward_bf16_d64)
SIMT_EXPORT(attention_forward_bf16_d128)
SIMT_EXPORT(attention_forward_branching_bf16_d16)
SIMT_EXPORT(attention_forward_branching_bf16_d32)
SIMT_EXPORT(attention_forward_branching_bf16_d64)
SIMT_EXPORT(attention_forward_branching_bf16_d128)

// Backward: `rows` stand still (keys and values, or queries and dO), `columns` go by (queries and dO, or
// keys and values), and what the rows gather stays in registers. Scores are products of rows with columns,
// so that P and dS come out as the left operands that the second products want (transposed where rows are
// keys): neither ever reaches shared memory.
namespace {
// At D 128, dk and dv of 32 rows would take all 256 registers of a thread: eight warps of 16 rows there.
template <int D> constexpr uint32_t backward_warps = D > 64 ? 2 * ATTENTION_WARPS : ATTENTION_WARPS;

// AT_ONCE: columns whose P and dS are in registers at a time.
template <int D, int AT_ONCE> struct Backward {
  static constexpr uint32_t ROWS = ATTENTION_ROWS, COLUMNS = ATTENTION_COLUMNS;
  static constexpr uint32_t WARPS = backward_warps<D>, THREADS = WARPS * WARP;
  static constexpr int BLOCKS = ROWS / WARPS / 16, SLICE = AT_ONCE;

  // Rows (k, v or q, dO), then two stages of columns (q, dO or k, v).
  bf16 *rows[2], *columns[2];
  float* stats;  // dk and dv: lse, delta and, as bits, where answers begin, of the columns; two stages
  uint32_t warp_row;

  PRIM explicit Backward(bf16* shared) {
    rows[0] = shared, rows[1] = rows[0] + ROWS * D;
    columns[0] = rows[1] + ROWS * D, columns[1] = columns[0] + 2 * COLUMNS * D;
    stats = reinterpret_cast<float*>(columns[1] + 2 * COLUMNS * D);
    warp_row = threadIdx.x / WARP * 16 * BLOCKS;
  }

  PRIM void load_both_rows(const bf16* x, const bf16* y, size_t stride, uint32_t count) {
    load_rows<D, ROWS, THREADS>(rows[0], x, stride, count);
    load_rows<D, ROWS, THREADS>(rows[1], y, stride, count);
  }
  PRIM void load_both_columns(uint32_t stage, const bf16* x, const bf16* y, size_t stride, uint32_t count) {
    load_rows<D, COLUMNS, THREADS>(columns[0] + stage * COLUMNS * D, x, stride, count);
    load_rows<D, COLUMNS, THREADS>(columns[1] + stage * COLUMNS * D, y, stride, count);
  }

  // p ← weights and ds ← dS of the warp's rows and SLICE columns from `column` of a stage. `stat(b, h, j)`
  // is {lse·log₂e, delta} of the query among row and column, `seen` as in Attend.
  template <class Stat, class Seen>
  PRIM void weights(float (&p)[BLOCKS][SLICE / 8][4], float (&ds)[BLOCKS][SLICE / 8][4], uint32_t at,
                    float c, bool whole, Stat stat, Seen seen) {
    scores<D, BLOCKS, SLICE>(p, rows[0], warp_row, columns[0], at);
    scores<D, BLOCKS, SLICE>(ds, rows[1], warp_row, columns[1], at);
    if (!whole) {
      each_element([&](int b, int j, int e, uint32_t column) {
        if (!seen(b, e / 2, column)) p[b][j][e] = -INFINITY;
      });
    }
    each_element([&](int b, int j, int e, uint32_t column) {
      const float2 of = stat(b, e / 2, column);
      p[b][j][e] = exp2_approx(fmaf(p[b][j][e], c, -of.x));
      ds[b][j][e] = p[b][j][e] * (ds[b][j][e] - of.y);
    });
  }

  // f(block of rows, of columns, element, column) for a thread's share of a slice.
  template <class F> PRIM static void each_element(F f) {
#pragma unroll
    for (int b = 0; b < BLOCKS; ++b) {
#pragma unroll
      for (int j = 0; j < SLICE / 8; ++j) {
#pragma unroll
        for (int e = 0; e < 4; ++e) f(b, j, e, 8 * j + lane_id() % 4 * 2 + e % 2);
      }
    }
  }

  // The warp's rows of y·factor, as bf16, to `target + r·stride`, by way of row tile `i`.
  PRIM void write(int i, const float (&y)[BLOCKS][D / 8][4], float factor, bf16* target, size_t stride, uint32_t count) {
    stage<D, BLOCKS>(rows[i], warp_row, y, [=](int, int) { return factor; });
    store_rows<D, BLOCKS>(rows[i], warp_row, [=](uint32_t r) { return r < count ? target + r * stride : nullptr; });
  }
};

template <int D, bool BRANCHING>
PRIM void backward_keys(bf16* __restrict__ dk, bf16* __restrict__ dv, const bf16* __restrict__ q,
                        const bf16* __restrict__ k, const bf16* __restrict__ v, const bf16* __restrict__ d_o,
                        const float* __restrict__ lse, const float* __restrict__ delta,
                        const AttentionKeyTile* __restrict__ tiles, const uint32_t* __restrict__ branches,
                        const AttentionParams& p) {
  using Step = Backward<D, BRANCHING && D == 64 ? 16 : 32>;  // with 32 and the second mask 3 registers spill at D 64
  constexpr uint32_t COLUMNS = Step::COLUMNS, STATS = (BRANCHING ? 3 : 2) * COLUMNS;
  const AttentionKeyTile t = tiles[blockIdx.x / p.kv_heads];
  if (t.keys == 0) return;
  DYNAMIC_SHARED(bf16, shared);
  Step step(shared);
  const uint32_t kv_head = blockIdx.x % p.kv_heads, group = p.heads / p.kv_heads, lane = lane_id();
  const size_t width = size_t(p.heads) * D, kv_width = size_t(p.kv_heads) * D;
  const size_t at_key = t.key * kv_width + kv_head * D;

  // Columns go by head after head of the group, each from the first query that sees a key.
  const uint32_t each = (t.queries + COLUMNS - 1) / COLUMNS, steps = each * group;
  const auto load = [&](uint32_t i) {
    const uint32_t first = i % each * COLUMNS, head = kv_head * group + i / each, left = t.queries - first;
    const size_t at = (t.query + first) * width + head * D;
    step.load_both_columns(i % 2, q + at, d_o + at, width, left);
    for (uint32_t r = threadIdx.x; r < STATS; r += Step::THREADS) {
      const uint32_t query = t.query + first + r % COLUMNS;
      const bool in = r % COLUMNS < left;
      const void* from = r < COLUMNS ? lse + size_t(query) * p.heads + head : delta + size_t(query) * p.heads + head;
      if (BRANCHING && r >= 2 * COLUMNS) from = branches + query;
      // Past the end lse 0 and, since q and dO are zeros there, nothing that counts.
      cp_async_4(step.stats + i % 2 * STATS + r, in ? from : lse, in ? 4 : 0);
    }
  };
  step.load_both_rows(k + at_key, v + at_key, kv_width, t.keys);
  if (steps > 0) load(0);
  cp_async_commit();

  float gk[Step::BLOCKS][D / 8][4] = {}, gv[Step::BLOCKS][D / 8][4] = {};
  const float c = p.scale * LOG2_E;
  for (uint32_t i = 0; i < steps; ++i) {
    if (i + 1 < steps) load(i + 1);
    cp_async_commit();
    cp_async_wait<1>();
    __syncthreads();
    const float* stats = step.stats + i % 2 * STATS;
#pragma unroll 1
    for (uint32_t s = 0; s < COLUMNS; s += Step::SLICE) {
      // Query first + j sees key r where r ≤ first + j + ahead; of an answer's keys, its own.
      const uint32_t first = i % each * COLUMNS + s, at = i % 2 * COLUMNS + s;
      if (first >= t.queries || step.warp_row >= t.keys || first + Step::SLICE - 1 + t.ahead < step.warp_row) continue;
      const bool answers = BRANCHING && t.branch;
      const bool whole = !answers && step.warp_row + 16 * Step::BLOCKS - 1 <= first + t.ahead;
      float w[Step::BLOCKS][Step::SLICE / 8][4] = {}, ds[Step::BLOCKS][Step::SLICE / 8][4] = {};
      step.weights(
          w, ds, at, c, whole,
          [&](int, int, uint32_t j) { return make_float2(stats[s + j] * LOG2_E, stats[COLUMNS + s + j]); },
          [&](int b, int h, uint32_t j) {
            const uint32_t r = step.warp_row + 16 * b + 8 * h + lane / 4;
            return r <= first + j + t.ahead && (!answers || __float_as_uint(stats[2 * COLUMNS + s + j]) <= t.key + r);
          });
      add_weighted<D, Step::BLOCKS, Step::SLICE>(gv, w, step.columns[1], at);
      add_weighted<D, Step::BLOCKS, Step::SLICE>(gk, ds, step.columns[0], at);
    }
    __syncthreads();  // the next round's copies overwrite this round's columns
  }
  cp_async_wait<0>();
  __syncthreads();  // without a query the rows may still be on their way
  step.write(0, gk, p.scale, dk + at_key, kv_width, t.keys);
  step.write(1, gv, 1.0f, dv + at_key, kv_width, t.keys);
}

template <int D, bool BRANCHING>
PRIM void backward_queries(bf16* __restrict__ dq, const bf16* __restrict__ q, const bf16* __restrict__ k,
                           const bf16* __restrict__ v, const bf16* __restrict__ d_o,
                           const float* __restrict__ lse, const float* __restrict__ delta,
                           const AttentionQueryTile* __restrict__ tiles, const uint32_t* __restrict__ branches,
                           const AttentionParams& p) {
  using Step = Backward<D, D == 128 ? 64 : 32>;
  constexpr uint32_t COLUMNS = Step::COLUMNS;
  const AttentionQueryTile t = tiles[blockIdx.x / p.heads];
  if (t.queries == 0) return;
  DYNAMIC_SHARED(bf16, shared);
  Step step(shared);
  const uint32_t head = blockIdx.x % p.heads, kv_head = head / (p.heads / p.kv_heads), lane = lane_id();
  const size_t width = size_t(p.heads) * D, kv_width = size_t(p.kv_heads) * D;
  const size_t at_query = t.query * width + head * D, at_key = t.key * kv_width + kv_head * D;

  const auto rounds = rounds_of<BRANCHING>(t);
  const uint32_t steps = rounds.count;
  const auto load = [&](uint32_t i) {
    const uint32_t first = rounds.first(i);
    const size_t at = at_key + first * kv_width;
    step.load_both_columns(i % 2, k + at, v + at, kv_width, rounds.end(i) - first);
  };
  step.load_both_rows(q + at_query, d_o + at_query, width, t.queries);
  if (steps > 0) load(0);
  cp_async_commit();

  float2 stat[Step::BLOCKS][2];
#pragma unroll
  for (int b = 0; b < Step::BLOCKS; ++b) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const uint32_t r = step.warp_row + 16 * b + 8 * h + lane / 4;
      const size_t at = size_t(t.query + r) * p.heads + head;
      stat[b][h] = r < t.queries ? make_float2(lse[at] * LOG2_E, delta[at]) : make_float2(0.0f, 0.0f);
    }
  }
  float gq[Step::BLOCKS][D / 8][4] = {};
  const float c = p.scale * LOG2_E;
  const Sight<Step::BLOCKS, BRANCHING> sight(t, step.warp_row, branches);
  for (uint32_t i = 0; i < steps; ++i) {
    if (i + 1 < steps) load(i + 1);
    cp_async_commit();
    cp_async_wait<1>();
    __syncthreads();
#pragma unroll 1
    for (uint32_t s = 0; s < COLUMNS; s += Step::SLICE) {
      const uint32_t first = rounds.first(i) + s, at = i % 2 * COLUMNS + s, end = rounds.end(i);
      const bool in_prompt = rounds.in_prompt(i);
      if (step.warp_row >= t.queries || sight.nothing(first, end)) break;
      float w[Step::BLOCKS][Step::SLICE / 8][4] = {}, ds[Step::BLOCKS][Step::SLICE / 8][4] = {};
      step.weights(
          w, ds, at, c, sight.whole(first, Step::SLICE, in_prompt, end), [&](int b, int h, uint32_t) { return stat[b][h]; },
          [&](int b, int h, uint32_t j) { return sight.sees(b, h, first + j, in_prompt, end); });
      add_weighted<D, Step::BLOCKS, Step::SLICE>(gq, ds, step.columns[0], at);
    }
    __syncthreads();  // the next round's copies overwrite this round's columns
  }
  cp_async_wait<0>();
  __syncthreads();  // without a key the rows may still be on their way
  step.write(0, gq, p.scale, dq + at_query, width, t.queries);
}
}  // namespace

// delta[i] = o[i]·d_o[i]: D / 8 lanes a row, 16 bytes each.
extern "C" __global__ void __launch_bounds__(ATTENTION_DELTA)
attention_backward_delta_bf16(float* __restrict__ delta, const bf16* __restrict__ o, const bf16* __restrict__ d_o,
                              uint32_t rows, uint32_t head_dim) {
  const uint32_t lanes = head_dim / 8, row = blockIdx.x * (ATTENTION_DELTA / lanes) + threadIdx.x / lanes;
  const uint32_t part = threadIdx.x % lanes;
  float sum = 0.0f;
  if (row < rows) {
    const size_t at = size_t(row) * head_dim + part * 8;
    const uint4 x = *reinterpret_cast<const uint4*>(o + at), y = *reinterpret_cast<const uint4*>(d_o + at);
    const uint32_t a[4] = {x.x, x.y, x.z, x.w}, b[4] = {y.x, y.y, y.z, y.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      sum = fmaf(__uint_as_float(a[i] << 16), __uint_as_float(b[i] << 16), sum);
      sum = fmaf(__uint_as_float(a[i] & 0xffff0000u), __uint_as_float(b[i] & 0xffff0000u), sum);
    }
  }
  for (uint32_t step = lanes / 2; step > 0; step /= 2) sum += __shfl_xor_sync(ALL_LANES, sum, step);
  if (row < rows && part == 0) delta[row] = sum;
}
SIMT_EXPORT(attention_backward_delta_bf16)

#define ATTENTION_BACKWARD(D)                                                                          \
  extern "C" __global__ void __launch_bounds__(backward_warps<D>* WARP) attention_backward_keys_bf16_d##D(  \
      bf16* dk, bf16* dv, const bf16* q, const bf16* k, const bf16* v, const bf16* d_o, const float* lse,  \
      const float* delta, const AttentionKeyTile* tiles, const AttentionParams p) {                        \
    backward_keys<D, false>(dk, dv, q, k, v, d_o, lse, delta, tiles, nullptr, p);                          \
  }                                                                                                        \
  extern "C" __global__ void __launch_bounds__(backward_warps<D>* WARP) attention_backward_queries_bf16_d##D(  \
      bf16* dq, const bf16* q, const bf16* k, const bf16* v, const bf16* d_o, const float* lse,              \
      const float* delta, const AttentionQueryTile* tiles, const AttentionParams p) {                        \
    backward_queries<D, false>(dq, q, k, v, d_o, lse, delta, tiles, nullptr, p);                             \
  }                                                                                                          \
  extern "C" __global__ void __launch_bounds__(backward_warps<D>* WARP) attention_backward_keys_branching_bf16_d##D( \
      bf16* dk, bf16* dv, const bf16* q, const bf16* k, const bf16* v, const bf16* d_o, const float* lse,    \
      const float* delta, const AttentionKeyTile* tiles, const uint32_t* from, const AttentionParams p) {    \
    backward_keys<D, true>(dk, dv, q, k, v, d_o, lse, delta, tiles, from, p);                                \
  }                                                                                                          \
  extern "C" __global__ void __launch_bounds__(backward_warps<D>* WARP) attention_backward_queries_branching_bf16_d##D( \
      bf16* dq, const bf16* q, const bf16* k, const bf16* v, const bf16* d_o, const float* lse,              \
      const float* delta, const AttentionQueryTile* tiles, const uint32_t* from, const AttentionParams p) {  \
    backward_queries<D, true>(dq, q, k, v, d_o, lse, delta, tiles, from, p);                                 \
  }
ATTENTION_BACKWARD(16)
ATTENTION_BACKWARD(32)
ATTENTION_BACKWARD(64)
ATTENTION_BACKWARD(128)
SIMT_EXPORT(attention_backward_keys_bf16_d16)
SIMT_EXPORT(attention_backward_keys_bf16_d32)
SIMT_EXPORT(attention_backward_keys_bf16_d64)
SIMT_EXPORT(attention_backward_keys_bf16_d128)
SIMT_EXPORT(attention_backward_keys_branching_bf16_d16)
SIMT_EXPORT(attention_backward_keys_branching_bf16_d32)
SIMT_EXPORT(attention_backward_keys_branching_bf16_d64)
SIMT_EXPORT(attention_backward_keys_branching_bf16_d128)
SIMT_EXPORT(attention_backward_queries_bf16_d16)
SIMT_EXPORT(attention_backward_queries_bf16_d32)
SIMT_EXPORT(attention_backward_queries_bf16_d64)
SIMT_EXPORT(attention_backward_queries_bf16_d128)
SIMT_EXPORT(attention_backward_queries_branching_bf16_d16)
SIMT_EXPORT(attention_backward_queries_branching_bf16_d32)
SIMT_EXPORT(attention_backward_queries_branching_bf16_d64)
SIMT_EXPORT(attention_backward_queries_branching_bf16_d128)
