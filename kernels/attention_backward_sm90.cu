// attention_backward_sm90: the backward of attention.cu for Hopper, by its copy engine and warpgroup products; compiled for
// sm_90a alone. With delta[i] = o[i]·d_o[i], p from lse and ds[i, j] = p[i, j]·(d_o[i]·v[j] − delta[i]):
//
//   dv[j] = Σ_i p[i, j]·d_o[i]      dk[j] = s·Σ_i ds[i, j]·q[i]      dq[i] = s·Σ_j ds[i, j]·k[j]
//
// Kernels named `keys` and `queries` do it in two passes, each with sums of its own; `reduce` does it in one, in which tiles of
// keys add to dq together, so that its bits depend on who comes first; `finish` rounds that dq.
//
// Shapes     as in attention.cu; q, k, v, d_o as tensor maps · sums [H, D / 64, T + 128, 64] f32, zeros before `reduce`; of row
//            r, 32-byte piece i lies at i xor r mod 8, so that no bank of shared memory is met twice on the way there
// Tiling     `rows` stand still (keys and values, or queries and dO), 64 a warpgroup; `columns` go by (queries and dO, or keys
//            and values) through a ring that one warp fills. Scores are rows times columns, so that p and ds are left operands
//            of the second products where they are, in registers. Blocks stay and work off a list
// Overlap    the two warpgroups share no sum and wait for each other nowhere; in each, p is computed while dO·vᵀ is multiplied, and
//            the one's products run under the other's weights
// Reduce     ds also goes to shared memory, as left operand of the product with k over all 128 keys; each warpgroup multiplies
//            64 × 64 of dq and the copy engine adds them
// Roofline   tensor cores: 14·D flop a visible pair and head, 10·D of them needed and by `reduce` done; weights take a 16th of
//            a cycle, twice, once
// Edges      columns behind the last are set to zero on chip, and lse and delta there: then they add nothing, whatever lay there
// Order      as in attention.cu: no atomics, runs repeat bit for bit; but for dq by `reduce`
// Reference  engine/src/ops/attention/reference.rs
#include "attention_sm90.h"
#include "common/warpgroup.cuh"

namespace {
constexpr uint32_t ROWS = ATTENTION_ROWS, STAGES = ATTENTION_SM90_STAGES, CONSUMERS = 2 * WARPGROUP;
constexpr int FETCHING = 40, MULTIPLYING = 232;  // registers of a thread: 128·40 + 256·232 of 65,536
constexpr uint32_t TOGETHER = 1, BOTH_GROUPS = 3;  // named barriers: a warpgroup's own threads, those of both
using At = Place<STAGES>;
template <int D> constexpr uint32_t step_of = ATTENTION_SM90_STEP / D;

// Shared memory: two tiles of rows, two rings of columns, and what belongs to a column: lse·log₂e, delta and, as bits, where
// its answer begins. For `reduce` two tiles of ds, [ROWS keys, STEP queries], and one of dq a warpgroup.
template <int D> struct Room {
  static constexpr uint32_t STEP = step_of<D>, STATS = 3 * STEP;
  bf16 *rows[2], *columns[2], *ds;
  float *stats, *dq;
  uint64_t *rows_full, *rows_empty, *landed, *full, *empty;

  PRIM explicit Room(bf16* shared) {
    rows[0] = shared, rows[1] = rows[0] + ROWS * D;
    columns[0] = rows[1] + ROWS * D, columns[1] = columns[0] + STAGES * STEP * D;
    stats = reinterpret_cast<float*>(columns[1] + STAGES * STEP * D);
    rows_full = reinterpret_cast<uint64_t*>(stats + STAGES * STATS), rows_empty = rows_full + 1, landed = rows_full + 2;
    full = rows_full + 3, empty = full + STAGES;
    // Behind what all passes have, at the next place where a swizzle may begin.
    ds = shared + (2 * (ROWS + STAGES * STEP) * D + (STAGES * STATS * 4 + ATTENTION_SM90_BARRIER_BYTES) / 2 + 511) / 512 * 512;
    dq = reinterpret_cast<float*>(ds + 2 * ROWS * STEP);
  }
  PRIM void prepare() const {
    mbar_init(rows_full, 1), mbar_init(rows_empty, CONSUMERS), mbar_init(landed, 1);
    for (uint32_t i = 0; i < STAGES; ++i) mbar_init(full + i, WARP + 1), mbar_init(empty + i, CONSUMERS);
    mbar_init_fence();
  }
};

// The warp that fetches: its places in the ring of rows and of columns.
template <int D> struct Fetch {
  static constexpr uint32_t STEP = step_of<D>;
  const Room<D>& room;
  const CUtensorMap *rows[2], *columns[2];
  uint32_t step = 0, entry = 0, tails = 0;

  // ROWS rows; where `left` is fewer, zeros behind them.
  PRIM void take_rows(uint32_t row, uint32_t column, uint32_t left) {
    uint64_t* const bar = left < ROWS ? room.landed : room.rows_full;
    if (lane_id() == 0) {
      mbar_wait(room.rows_empty, entry % 2 ^ 1);
      mbar_arrive_expect_tx(bar, 2 * ROWS * D * 2);
#pragma unroll
      for (uint32_t x = 0; x < 2; ++x) {
        for (uint32_t r = 0; r < ROWS; r += BOX) load_tile<D, BOX>(room.rows[x] + r * D, rows[x], bar, row + r, column);
      }
    }
    ++entry;
    if (left >= ROWS) return;
    mbar_wait(room.landed, tails++ % 2);
#pragma unroll
    for (uint32_t x = 0; x < 2; ++x) {
      for (uint32_t r = 0; r < ROWS; r += BOX) clear_behind<D, BOX>(room.rows[x] + r * D, left > r ? min(left - r, BOX) : 0);
    }
    fence_proxy_async();
    __syncwarp();
    if (lane_id() == 0) mbar_arrive(room.rows_full);
  }

  // STEP columns, of which `left` count; `stats(to, i)` stores what belongs to column i.
  template <class Stats> PRIM void take_columns(uint32_t row, uint32_t column, uint32_t left, Stats stats) {
    const At at(step++);
    mbar_wait(room.empty + at.stage, at.parity ^ 1);  // passes at once in the first round
    uint64_t *const full = room.full + at.stage, *const bar = left < STEP ? room.landed : full;
    if (lane_id() == 0) {
      mbar_arrive_expect_tx(bar, 2 * STEP * D * 2);
#pragma unroll
      for (uint32_t x = 0; x < 2; ++x) load_tile<D, STEP>(room.columns[x] + at.stage * STEP * D, columns[x], bar, row, column);
    }
    for (uint32_t i = lane_id(); i < STEP; i += WARP) stats(room.stats + at.stage * Room<D>::STATS + i, i);
    if (left < STEP) {
      mbar_wait(room.landed, tails++ % 2);
#pragma unroll
      for (uint32_t x = 0; x < 2; ++x) clear_behind<D, STEP>(room.columns[x] + at.stage * STEP * D, left);
      fence_proxy_async();
      __syncwarp();  // no lane may be a round of `landed` behind
    }
    // One arrival a lane, for its stats, and one for the tiles: above, with their bytes, or here.
    mbar_arrive(full);
    if (bar != full && lane_id() == 0) mbar_arrive(full);
  }
};

// A warpgroup's 64 rows while columns go by. A thread has two of them: lane / 4 of its warp's 16 and eight below.
template <int D> struct Multiply {
  static constexpr int N = step_of<D>;
  const Room<D>& room;
  const uint32_t group, lane, row;  // which warpgroup, lane, the thread's first row of the tile
  uint32_t w[N / 4], x[N / 4];      // weights and ds in flight as left operands

  PRIM explicit Multiply(const Room<D>& r)
      : room(r), group(threadIdx.x / WARPGROUP - 1), lane(lane_id()), row((threadIdx.x - WARPGROUP) / WARP * 16 + lane_id() / 4) {}

  PRIM const bf16* columns(int i, uint32_t stage) const { return room.columns[i] + stage * N * D; }
  // The column of a thread's element i.
  PRIM uint32_t column(uint32_t i) const { return i / 4 * 8 + lane % 4 * 2 + i % 2; }

  // x ← ds of the columns at a stage and, where there is a gv, gv += weights·columns[1], in flight. hide(s): −∞ into the scores
  // that do not count. stat(h, i): {lse·log₂e, delta} of row h, element i.
  template <bool BOTH, class Hide, class Stat>
  PRIM void take(uint32_t stage, float c, Hide hide, Stat stat, float (&gv)[D / 2]) {
    float s[N / 2], d[N / 2];  // scores, then weights · dP: nothing of them lives on while the second products run
    issue_rows_by_rows<D, N, BOX, N>(s, room.rows[0] + group * BOX * D, columns(0, stage));
    issue_rows_by_rows<D, N, BOX, N>(d, room.rows[1] + group * BOX * D, columns(1, stage));
    wgmma_wait<1>();
    hold(s);
    hide(s);
#pragma unroll
    for (uint32_t i = 0; i < N / 2; ++i) s[i] = exp2_approx(fmaf(s[i], c, -stat(i / 2 % 2, i).x));
    wgmma_wait<0>();
    hold(d);
    // Both operands before either product: beside w in flight and D sums, s and d would not fit.
#pragma unroll
    for (uint32_t i = 0; i < N / 4; ++i) {
      if (BOTH) w[i] = pack_bf16(s[2 * i], s[2 * i + 1]);
      x[i] = pack_bf16(s[2 * i] * (d[2 * i] - stat(i % 2, 2 * i).y), s[2 * i + 1] * (d[2 * i + 1] - stat(i % 2, 2 * i + 1).y));
    }
    if constexpr (BOTH) issue_weighted<D, N>(gv, w, columns(1, stage));
  }
  // g += ds·columns[0], in flight.
  PRIM void gather(uint32_t stage, float (&g)[D / 2]) { issue_weighted<D, N>(g, x, columns(0, stage)); }

  // x to the tile of ds, which the copy engine's swizzle permutes: [ROWS keys, 64 queries] a box.
  PRIM void keep_ds(bf16* tile) const {
#pragma unroll
    for (uint32_t i = 0; i < N / 4; ++i) {
      const uint32_t r = row + i % 2 * 8, j = i / 2 * 8;
      bf16* to = tile + j / BOX * ROWS * BOX + r * BOX + ((j % BOX / 8) ^ (r % 8)) * 8 + lane % 4 * 2;
      *reinterpret_cast<uint32_t*>(to) = x[i];
    }
  }
  // g ← this warpgroup's 64 × 64 of dq: at D 64 its 64 of 128 queries, at D 128 its half of the columns. In flight.
  PRIM void issue_dq(float (&g)[BOX / 2], const bf16* tile) const {
    const bf16 *a = tile + (D == 64 ? group * ROWS * BOX : 0), *b = room.rows[0] + (D == 64 ? 0 : group * BOX * BOX);
    hold(g);
    wgmma_fence();
#pragma unroll
    for (uint32_t j = 0; j < ROWS; j += 16) {
      wgmma_ss<BOX, 1, 1>(g, down_columns<ROWS>(a, j), down_columns<BOX>(b + j / BOX * BOX * D, j % BOX), j > 0);
    }
    wgmma_commit();
  }
  // Adds them to rows `at`… of sums, a row 64 f32.
  PRIM void add_dq(const float (&g)[BOX / 2], float* sums, uint32_t at) const {
    float* const tile = room.dq + group * BOX * BOX;
    if (threadIdx.x % WARPGROUP == 0) bulk_wait_read<0>();
    together();  // the last sums have left the tile
#pragma unroll
    for (uint32_t i = 0; i < BOX / 2; i += 2) {
      const uint32_t r = row - group * BOX + i / 2 % 2 * 8;
      *reinterpret_cast<float2*>(tile + r * BOX + ((i / 4) ^ ((at + r) % 8)) * 8 + lane % 4 * 2) = make_float2(g[i], g[i + 1]);
    }
    fence_proxy_async();
    together();
    if (threadIdx.x % WARPGROUP == 0) bulk_reduce_add_f32(sums + size_t(at) * BOX, tile, BOX * BOX * 4), bulk_commit();
  }

  // The rows' y·factor as bf16 to `target + r·stride`, by way of the rows' own room i; whole once all of the warpgroup came.
  PRIM void write(int i, const float (&y)[D / 2], float factor, bf16* target, size_t stride, uint32_t count) {
    const uint32_t first = row - lane / 4;
    stage<D, 1>(room.rows[i], first, reinterpret_cast<const float(&)[1][D / 8][4]>(y), [=](int, int) { return factor; });
    store_rows<D, 1>(room.rows[i], first, [=](uint32_t r) { return r < count ? target + r * stride : nullptr; });
  }
  PRIM void together() const { named_sync(TOGETHER + group, WARPGROUP); }
  PRIM void release_rows() const {
    fence_proxy_async();  // the next rows come by the copy engine
    mbar_arrive(room.rows_empty);
  }
};

// The queries that see a tile of keys go by head after head of the group, each from the first on.
template <int D> struct QueryRounds {
  uint32_t each, steps;
  PRIM QueryRounds(const AttentionKeyTile& t, uint32_t group) {
    each = (t.queries + step_of<D> - 1) / step_of<D>, steps = each * group;
  }
};

// `sums`, of `rows` rows a head and 64 columns: dq of `reduce`; null in `keys`.
template <int D, bool BRANCHING, bool REDUCE>
PRIM void backward_keys(bf16* __restrict__ dk, bf16* __restrict__ dv, float* __restrict__ sums, uint32_t rows, const CUtensorMap* q, const CUtensorMap* k, const CUtensorMap* v,
                        const CUtensorMap* d_o, const float* __restrict__ lse, const float* __restrict__ delta,
                        const AttentionKeyTile* __restrict__ tiles, const uint32_t* __restrict__ branches, uint32_t entries,
                        const AttentionParams& p) {
  constexpr uint32_t STEP = step_of<D>;
  DYNAMIC_SHARED(bf16, shared);
  const Room<D> room(shared);
  if (threadIdx.x == 0) room.prepare();
  __syncthreads();
  const uint32_t group = p.heads / p.kv_heads;
  if (threadIdx.x < WARPGROUP) {
    setmaxnreg_dec<FETCHING>();
    if (threadIdx.x >= WARP) return;
    Fetch<D> fetch{room, {k, v}, {q, d_o}};
    each_entry(tiles, entries, p.kv_heads, [&](const AttentionKeyTile& t, uint32_t kv_head) {
      const QueryRounds<D> rounds(t, group);
      if (t.keys == 0 || rounds.steps == 0) return;
      fetch.take_rows(t.key, kv_head * D, REDUCE ? t.keys : ROWS);
      for (uint32_t i = 0; i < rounds.steps; ++i) {
        const uint32_t first = i % rounds.each * STEP, head = kv_head * group + i / rounds.each, left = t.queries - first;
        fetch.take_columns(t.query + first, head * D, left, [&](float* to, uint32_t j) {
          const size_t query = t.query + first + j;
          to[0] = j < left ? lse[query * p.heads + head] * LOG2_E : 0.0f;
          to[STEP] = j < left ? delta[query * p.heads + head] : 0.0f;
          if (BRANCHING) to[2 * STEP] = __uint_as_float(j < left ? branches[query] : 0);
        });
      }
    });
    return;
  }
  setmaxnreg_inc<MULTIPLYING>();
  Multiply<D> state(room);
  const size_t kv_width = size_t(p.kv_heads) * D;
  uint32_t step = 0, entry = 0;
  each_entry(tiles, entries, p.kv_heads, [&](const AttentionKeyTile& t, uint32_t kv_head) {
    if (t.keys == 0) return;
    const QueryRounds<D> rounds(t, group);
    const size_t at_key = t.key * kv_width + kv_head * D;
    if (rounds.steps == 0) {
      clear_rows<D>(dk + at_key, kv_width, t.keys, threadIdx.x - WARPGROUP, CONSUMERS);
      clear_rows<D>(dv + at_key, kv_width, t.keys, threadIdx.x - WARPGROUP, CONSUMERS);
      return;
    }
    float gk[D / 2] = {}, gv[D / 2] = {};
    const uint32_t first_row = state.group * BOX;
    mbar_wait(room.rows_full, entry++ % 2);
#pragma unroll 1
    for (uint32_t i = 0; i < rounds.steps; ++i, ++step) {
      const At at(step);
      mbar_wait(room.full + at.stage, at.parity);
      // Query first + j sees key r where r ≤ first + j + ahead; of an answer's keys, its own.
      const uint32_t first = i % rounds.each * STEP;
      const float* stats = room.stats + at.stage * Room<D>::STATS;
      const bool seen = first_row < t.keys && first_row <= first + STEP - 1 + t.ahead;
      if (seen) {
        const auto hide = [&](float (&s)[STEP / 2]) {
          const bool answers = BRANCHING && t.branch;
          if (!answers && first_row + BOX - 1 <= first + t.ahead) return;
#pragma unroll
          for (uint32_t e = 0; e < STEP / 2; ++e) {
            const uint32_t r = state.row + e / 2 % 2 * 8, j = state.column(e);
            if (r > first + j + t.ahead || (answers && __float_as_uint(stats[2 * STEP + j]) > t.key + r)) s[e] = -INFINITY;
          }
        };
        state.template take<true>(at.stage, p.scale * LOG2_E, hide, [&](uint32_t, uint32_t e) {
          return make_float2(stats[state.column(e)], stats[STEP + state.column(e)]);
        }, gv);
      }
      if constexpr (!REDUCE) {
        if (seen) state.gather(at.stage, gk);
        wgmma_wait<0>();
      } else {
        if (!seen) {
#pragma unroll
          for (uint32_t e = 0; e < STEP / 4; ++e) state.x[e] = 0;
        }
        bf16* const tile = room.ds + step % 2 * ROWS * STEP;
        state.keep_ds(tile);
        fence_proxy_async();
        named_sync(BOTH_GROUPS, CONSUMERS);  // all 128 keys' ds are there, and the products with the tile before are over
        float gq[BOX / 2];
        state.gather(at.stage, gk);
        state.issue_dq(gq, tile);
        wgmma_wait<0>();
        hold(gq);
        const uint32_t head = kv_head * group + i / rounds.each, part = D == 64 ? 0 : state.group;
        state.add_dq(gq, sums + size_t(head * (D / BOX) + part) * rows * BOX, t.query + first + (D == 64 ? state.group * BOX : 0));
      }
      hold(gk), hold(gv), hold(state.w), hold(state.x);
      mbar_arrive(room.empty + at.stage);
    }
    // No product reads the rows any more: of dq those of both warpgroups do.
    if (REDUCE) named_sync(BOTH_GROUPS, CONSUMERS);
    else state.together();
    state.write(0, gk, p.scale, dk + at_key, kv_width, t.keys);
    state.write(1, gv, 1.0f, dv + at_key, kv_width, t.keys);
    state.release_rows();
  });
  if (REDUCE && threadIdx.x % WARPGROUP == 0) bulk_wait_read<0>();
}

template <int D, bool BRANCHING>
PRIM void backward_queries(bf16* __restrict__ dq, const CUtensorMap* q, const CUtensorMap* k, const CUtensorMap* v,
                           const CUtensorMap* d_o, const float* __restrict__ lse, const float* __restrict__ delta,
                           const AttentionQueryTile* __restrict__ tiles, const uint32_t* __restrict__ branches, uint32_t entries,
                           const AttentionParams& p) {
  constexpr uint32_t STEP = step_of<D>;
  const auto rounds_of = [](const AttentionQueryTile& t) {
    return BRANCHING ? Rounds<STEP>(t.shared, t.own, t.keys) : Rounds<STEP>(0, 0, t.keys);
  };
  DYNAMIC_SHARED(bf16, shared);
  const Room<D> room(shared);
  if (threadIdx.x == 0) room.prepare();
  __syncthreads();
  if (threadIdx.x < WARPGROUP) {
    setmaxnreg_dec<FETCHING>();
    if (threadIdx.x >= WARP) return;
    Fetch<D> fetch{room, {q, d_o}, {k, v}};
    each_entry(tiles, entries, p.heads, [&](const AttentionQueryTile& t, uint32_t head) {
      const auto rounds = rounds_of(t);
      if (t.queries == 0 || rounds.count == 0) return;
      fetch.take_rows(t.query, head * D, ROWS);
      for (uint32_t i = 0; i < rounds.count; ++i) {
        const uint32_t first = rounds.first(i);
        fetch.take_columns(t.key + first, head / (p.heads / p.kv_heads) * D, rounds.end(i) - first, [](float*, uint32_t) {});
      }
    });
    return;
  }
  setmaxnreg_inc<MULTIPLYING>();
  Multiply<D> state(room);
  const size_t width = size_t(p.heads) * D;
  uint32_t step = 0, entry = 0;
  each_entry(tiles, entries, p.heads, [&](const AttentionQueryTile& t, uint32_t head) {
    if (t.queries == 0) return;
    const auto rounds = rounds_of(t);
    bf16* const target = dq + t.query * width + head * D;
    if (rounds.count == 0) {
      clear_rows<D>(target, width, t.queries, threadIdx.x - WARPGROUP, CONSUMERS);
      return;
    }
    const KeysSeen seen(t, state.group, state.row, BRANCHING ? branches : nullptr);
    float2 stat[2];
#pragma unroll
    for (uint32_t h = 0; h < 2; ++h) {
      const uint32_t r = state.row + 8 * h;
      const size_t at = size_t(t.query + r) * p.heads + head;
      stat[h] = r < t.queries ? make_float2(lse[at] * LOG2_E, delta[at]) : make_float2(0.0f, 0.0f);
    }
    float gq[D / 2] = {};
    mbar_wait(room.rows_full, entry++ % 2);
#pragma unroll 1
    for (uint32_t i = 0; i < rounds.count; ++i, ++step) {
      const At at(step);
      mbar_wait(room.full + at.stage, at.parity);
      if (state.group * BOX < t.queries && rounds.first(i) <= seen.last) {
        state.template take<false>(at.stage, p.scale * LOG2_E, [&](float (&s)[STEP / 2]) { seen.mask<STEP>(s, rounds, i); },
                                   [&](uint32_t h, uint32_t) { return stat[h]; }, gq);
        state.gather(at.stage, gq);
        wgmma_wait<0>();
        hold(gq), hold(state.x);
      }
      mbar_arrive(room.empty + at.stage);
    }
    state.together();
    state.write(0, gq, p.scale, target, width, t.queries);
    state.release_rows();
  });
}
}  // namespace

#define ATTENTION_SM90_MAPS                                                                                \
  const __grid_constant__ CUtensorMap q, const __grid_constant__ CUtensorMap k, const __grid_constant__ CUtensorMap v, \
      const __grid_constant__ CUtensorMap d_o
#define ATTENTION_SM90_BACKWARD(D)                                                                            \
  extern "C" __global__ void __launch_bounds__(ATTENTION_SM90_THREADS, 1) attention_sm90_backward_keys_bf16_d##D( \
      bf16* dk, bf16* dv, ATTENTION_SM90_MAPS, const float* lse, const float* delta, const AttentionKeyTile* tiles, \
      const uint32_t entries, const AttentionParams p) {                                                      \
    backward_keys<D, false, false>(dk, dv, nullptr, 0, &q, &k, &v, &d_o, lse, delta, tiles, nullptr, entries, p);                \
  }                                                                                                           \
  extern "C" __global__ void __launch_bounds__(ATTENTION_SM90_THREADS, 1) attention_sm90_backward_keys_branching_bf16_d##D( \
      bf16* dk, bf16* dv, ATTENTION_SM90_MAPS, const float* lse, const float* delta, const AttentionKeyTile* tiles, \
      const uint32_t* from, const uint32_t entries, const AttentionParams p) {                                \
    backward_keys<D, true, false>(dk, dv, nullptr, 0, &q, &k, &v, &d_o, lse, delta, tiles, from, entries, p);                    \
  }                                                                                                           \
  extern "C" __global__ void __launch_bounds__(ATTENTION_SM90_THREADS, 1) attention_sm90_backward_queries_bf16_d##D( \
      bf16* dq, ATTENTION_SM90_MAPS, const float* lse, const float* delta, const AttentionQueryTile* tiles,   \
      const uint32_t entries, const AttentionParams p) {                                                      \
    backward_queries<D, false>(dq, &q, &k, &v, &d_o, lse, delta, tiles, nullptr, entries, p);                 \
  }                                                                                                           \
  extern "C" __global__ void __launch_bounds__(ATTENTION_SM90_THREADS, 1) attention_sm90_backward_queries_branching_bf16_d##D( \
      bf16* dq, ATTENTION_SM90_MAPS, const float* lse, const float* delta, const AttentionQueryTile* tiles,   \
      const uint32_t* from, const uint32_t entries, const AttentionParams p) {                                \
    backward_queries<D, true>(dq, &q, &k, &v, &d_o, lse, delta, tiles, from, entries, p);                     \
  }
#define ATTENTION_SM90_REDUCE(D)                                                                               \
  extern "C" __global__ void __launch_bounds__(ATTENTION_SM90_THREADS, 1) attention_sm90_backward_reduce_bf16_d##D( \
      bf16* dk, bf16* dv, float* sums, const uint32_t rows, ATTENTION_SM90_MAPS, const float* lse, const float* delta, \
      const AttentionKeyTile* tiles, const uint32_t entries, const AttentionParams p) {                        \
    backward_keys<D, false, true>(dk, dv, sums, rows, &q, &k, &v, &d_o, lse, delta, tiles, nullptr, entries, p); \
  }                                                                                                            \
  extern "C" __global__ void __launch_bounds__(ATTENTION_SM90_THREADS, 1) attention_sm90_backward_reduce_branching_bf16_d##D( \
      bf16* dk, bf16* dv, float* sums, const uint32_t rows, ATTENTION_SM90_MAPS, const float* lse, const float* delta, \
      const AttentionKeyTile* tiles, const uint32_t* from, const uint32_t entries, const AttentionParams p) {  \
    backward_keys<D, true, true>(dk, dv, sums, rows, &q, &k, &v, &d_o, lse, delta, tiles, from, entries, p);   \
  }
ATTENTION_SM90_BACKWARD(64)
ATTENTION_SM90_BACKWARD(128)
ATTENTION_SM90_REDUCE(64)
ATTENTION_SM90_REDUCE(128)

// dq ← scale·sums, eight columns a thread. columns: H·D; rows: of sums, a head.
extern "C" __global__ void __launch_bounds__(ATTENTION_DELTA)
attention_sm90_backward_finish_bf16(bf16* __restrict__ dq, const float* __restrict__ sums, const uint32_t tokens, const uint32_t columns,
                                    const uint32_t rows, const float scale) {
  const uint32_t pieces = columns / 8;
  const size_t i = size_t(blockIdx.x) * ATTENTION_DELTA + threadIdx.x;
  if (i >= size_t(tokens) * pieces) return;
  const uint32_t row = uint32_t(i / pieces), piece = uint32_t(i % pieces), part = piece / (BOX / 8);
  const float* from = sums + (size_t(part) * rows + row) * BOX + (piece % (BOX / 8) ^ row % 8) * 8;
  const uint4 a = load_16(from), b = load_16(from + 4);
  const auto pair = [=](uint32_t x, uint32_t y) { return pack_bf16(scale * __uint_as_float(x), scale * __uint_as_float(y)); };
  store_16(dq + i * 8, make_uint4(pair(a.x, a.y), pair(a.z, a.w), pair(b.x, b.y), pair(b.z, b.w)));
}
SIMT_EXPORT(attention_sm90_backward_finish_bf16)
SIMT_EXPORT(attention_sm90_backward_reduce_bf16_d64)
SIMT_EXPORT(attention_sm90_backward_reduce_bf16_d128)
SIMT_EXPORT(attention_sm90_backward_reduce_branching_bf16_d64)
SIMT_EXPORT(attention_sm90_backward_reduce_branching_bf16_d128)
SIMT_EXPORT(attention_sm90_backward_keys_bf16_d64)
SIMT_EXPORT(attention_sm90_backward_keys_bf16_d128)
SIMT_EXPORT(attention_sm90_backward_keys_branching_bf16_d64)
SIMT_EXPORT(attention_sm90_backward_keys_branching_bf16_d128)
SIMT_EXPORT(attention_sm90_backward_queries_bf16_d64)
SIMT_EXPORT(attention_sm90_backward_queries_bf16_d128)
SIMT_EXPORT(attention_sm90_backward_queries_branching_bf16_d64)
SIMT_EXPORT(attention_sm90_backward_queries_branching_bf16_d128)
