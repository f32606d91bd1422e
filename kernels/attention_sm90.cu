// attention_sm90: the forward of attention.cu for Hopper, by its copy engine and warpgroup products (FlashAttention-3,
// Shah et al. 2024). The same sums over the same tiles; compiled for sm_90a alone.
//
//   o[i] = Σ_j p[i, j]·v[j]    p[i, j] = exp(s·q[i]·k[j] − lse[i])    lse[i] = ln Σ_j exp(s·q[i]·k[j])
//
// Shapes     q, o [T, H·D] · k, v [S, Hkv·D] bf16, as tensor maps but for o · lse [T, H] f32 · tiles: a list in device memory
// Tiling     a block an SM works off entries (tile, head), longest first and every other round backwards, so that
//            blocks end together. One warp fetches: queries, then COLUMNS keys and values into a ring of STAGES.
//            Two warpgroups hold 64 queries each: scores from shared memory, weights as the left operand from registers
// Overlap    scores of the next keys are issued before the values of these; a named barrier lets one warpgroup
//            issue its products while the other computes weights
// Roofline   tensor cores: 4·D flop a visible pair and head; a weight takes a 16th of a cycle, so at D 64 they are even
// Branching  answers to a prompt as in attention.cu: the prompt's keys whole, then those from the first row's answer on
// Edges      keys that a row does not see are masked on the diagonal · values behind a segment's last are set to zero on
//            chip, for they may be anything and 0·NaN is NaN · rows of no segment: o 0, lse −∞
// Order      keys go by from the first: runs repeat bit for bit and a row's bits do not depend on its neighbours
// Reference  engine/src/ops/attention/reference.rs
#include "attention_sm90.h"
#include "common/warpgroup.cuh"

namespace {
constexpr uint32_t ROWS = ATTENTION_ROWS, COLUMNS = ATTENTION_SM90_COLUMNS, STAGES = ATTENTION_SM90_STAGES;
constexpr uint32_t CONSUMERS = 2 * WARPGROUP;
using At = Place<STAGES>;
// Registers of a thread: 128·56 + 256·224 of 65,536.
constexpr int FETCHING = 56, MULTIPLYING = 224;
// Named barriers: one a warpgroup for its turn, one for its own threads.
constexpr uint32_t TURN = 1, TOGETHER = 3;

// Shared memory: a tile of queries a warpgroup, then the rings.
template <int D> struct Room {
  bf16 *q, *k, *v;
  uint64_t *q_full, *q_empty, *k_full, *k_empty, *v_full, *v_empty, *landed;

  PRIM explicit Room(bf16* shared) {
    q = shared, k = q + ROWS * D, v = k + STAGES * COLUMNS * D;
    q_full = reinterpret_cast<uint64_t*>(v + STAGES * COLUMNS * D), q_empty = q_full + 1, landed = q_full + 2;
    k_full = q_full + 3, k_empty = k_full + STAGES, v_full = k_empty + STAGES, v_empty = v_full + STAGES;
  }
  // By one thread, before a barrier of the block.
  PRIM void prepare() const {
    mbar_init(q_full, 1), mbar_init(q_empty, CONSUMERS), mbar_init(landed, 1);
    for (uint32_t i = 0; i < STAGES; ++i) {
      mbar_init(k_full + i, 1), mbar_init(k_empty + i, CONSUMERS);
      mbar_init(v_full + i, 1), mbar_init(v_empty + i, CONSUMERS);
    }
    mbar_init_fence();
  }
};

template <bool BRANCHING> PRIM Rounds<COLUMNS> rounds_of(const AttentionQueryTile& t) {
  return BRANCHING ? Rounds<COLUMNS>(t.shared, t.own, t.keys) : Rounds<COLUMNS>(0, 0, t.keys);
}

// One warp: what the others work on, in their order.
template <int D, bool BRANCHING>
PRIM void fetch(const Room<D>& room, const CUtensorMap* q, const CUtensorMap* k, const CUtensorMap* v,
                const AttentionQueryTile* tiles, uint32_t entries, const AttentionParams& p) {
  const uint32_t lane = lane_id();
  uint32_t step = 0, entry = 0, tails = 0;
  each_entry(tiles, entries, p.heads, [&](const AttentionQueryTile& t, uint32_t head) {
    const auto rounds = rounds_of<BRANCHING>(t);
    const uint32_t steps = rounds.count, kv_column = head / (p.heads / p.kv_heads) * D;
    if (t.queries == 0 || steps == 0) return;
    const auto load = [&](bf16* ring, const CUtensorMap* map, uint64_t* bar, uint32_t i) {
      mbar_arrive_expect_tx(bar, COLUMNS * D * 2);
      load_tile<D, COLUMNS>(ring + At(step + i).stage * COLUMNS * D, map, bar, t.key + rounds.first(i), kv_column);
    };
    const auto load_keys = [&](uint32_t i) {
      const At at(step + i);
      mbar_wait(room.k_empty + at.stage, at.parity ^ 1);  // passes at once in the first round
      load(room.k, k, room.k_full + at.stage, i);
    };
    if (lane == 0) {
      mbar_wait(room.q_empty, entry % 2 ^ 1);
      mbar_arrive_expect_tx(room.q_full, ROWS * D * 2);
      for (uint32_t r = 0; r < ROWS; r += BOX) load_tile<D, BOX>(room.q + r * D, q, room.q_full, t.query + r, head * D);
      load_keys(0);
    }
    for (uint32_t i = 0; i < steps; ++i) {
      const At at(step + i);
      const uint32_t left = rounds.end(i) - rounds.first(i);
      uint64_t* full = room.v_full + at.stage;
      if (lane == 0) {
        if (i + 1 < steps) load_keys(i + 1);
        mbar_wait(room.v_empty + at.stage, at.parity ^ 1);
        load(room.v, v, left < COLUMNS ? room.landed : full, i);
      }
      if (left < COLUMNS) {
        mbar_wait(room.landed, tails++ % 2);
        clear_behind<D, COLUMNS>(room.v + at.stage * COLUMNS * D, left);
        fence_proxy_async();
        __syncwarp();
        if (lane == 0) mbar_arrive(full);
      }
    }
    step += steps, ++entry;
  });
}

// A warpgroup's 64 queries while keys go by. A thread has two rows of them: lane / 4 of its warp's 16 and eight below.
template <int D> struct Multiply {
  const Room<D>& room;
  const uint32_t group, lane, row;  // which warpgroup, lane, the thread's first row of the tile
  float s[COLUMNS / 2], o[D / 2], most[2], sum[2];
  uint32_t w[COLUMNS / 4];  // weights, in flight as a left operand

  PRIM explicit Multiply(const Room<D>& r)
      : room(r), group(threadIdx.x / WARPGROUP - 1), lane(lane_id()), row((threadIdx.x - WARPGROUP) / WARP * 16 + lane_id() / 4) {}

  PRIM void clear() {
#pragma unroll
    for (uint32_t i = 0; i < D / 2; ++i) o[i] = 0.0f;
    most[0] = most[1] = -INFINITY, sum[0] = sum[1] = 0.0f;
  }

  PRIM void my_turn() const { named_sync(TURN + group, CONSUMERS); }
  PRIM void your_turn() const { named_arrive(TURN + (group ^ 1), CONSUMERS); }

  // s ← q·kᵀ and o += w·v for what is at a stage, in flight.
  PRIM void issue_scores(uint32_t stage) {
    issue_rows_by_rows<D, COLUMNS, BOX, COLUMNS>(s, room.q + group * BOX * D, room.k + stage * COLUMNS * D);
  }
  PRIM void issue_values(uint32_t stage) { issue_weighted<D, COLUMNS>(o, w, room.v + stage * COLUMNS * D); }

  // Turns scores into weights against each row's largest score so far. fix: what brings what was gathered before into
  // the same measure; whether some row of the warp wants it.
  PRIM bool weigh(float c, float (&fix)[2]) {
    bool moved = false;
#pragma unroll
    for (uint32_t h = 0; h < 2; ++h) {
      float m = most[h];
#pragma unroll
      for (uint32_t i = 2 * h; i < COLUMNS / 2; i += 4) m = fmaxf(m, fmaxf(s[i], s[i + 1]));
      m = row_max(m);
      // A row that has seen no key yet: −∞ − −∞ would be NaN.
      const float shift = m == -INFINITY ? 0.0f : m * c;
      fix[h] = exp2_approx(fmaf(most[h], c, -shift));
      moved = moved || m != most[h];
      most[h] = m;
      float total = 0.0f;
#pragma unroll
      for (uint32_t i = 2 * h; i < COLUMNS / 2; i += 4) {
        s[i] = exp2_approx(fmaf(s[i], c, -shift)), s[i + 1] = exp2_approx(fmaf(s[i + 1], c, -shift));
        total += s[i] + s[i + 1];
      }
      sum[h] = fmaf(sum[h], fix[h], total);
    }
    return __any_sync(ALL_LANES, moved);
  }

  PRIM void rescale(const float (&fix)[2]) {
#pragma unroll
    for (uint32_t i = 0; i < D / 2; ++i) o[i] *= fix[i / 2 % 2];
  }

  // All keys of an entry, the ring standing at `step`.
  PRIM void attend(const Rounds<COLUMNS>& rounds, const KeysSeen& seen, uint32_t step, float c) {
    float fix[2];
    clear();
    const At first(step);
    mbar_wait(room.k_full + first.stage, first.parity);
    my_turn();
    issue_scores(first.stage);
    your_turn();
    wgmma_wait<0>();
    hold(s);
    mbar_arrive(room.k_empty + first.stage);
    seen.mask<COLUMNS>(s, rounds, 0);
    weigh(c, fix);
    as_operand(w, s);
#pragma unroll 1
    for (uint32_t i = 1; i < rounds.count; ++i) {
      const At at(step + i), before(step + i - 1);
      mbar_wait(room.k_full + at.stage, at.parity);
      my_turn();
      issue_scores(at.stage);
      mbar_wait(room.v_full + before.stage, before.parity);
      issue_values(before.stage);
      your_turn();
      wgmma_wait<1>();
      hold(s);
      mbar_arrive(room.k_empty + at.stage);
      seen.mask<COLUMNS>(s, rounds, i);
      const bool moved = weigh(c, fix);
      wgmma_wait<0>();
      hold(o);
      hold(w);
      mbar_arrive(room.v_empty + before.stage);
      as_operand(w, s);
      if (moved) rescale(fix);
    }
    const At last(step + rounds.count - 1);
    mbar_wait(room.v_full + last.stage, last.parity);
    issue_values(last.stage);
    wgmma_wait<0>();
    hold(o);
    mbar_arrive(room.v_empty + last.stage);
  }

  // The rows' results, by way of the queries' own room.
  PRIM void write(bf16* o_at, float* lse_at, size_t width, uint32_t heads, uint32_t queries, float scale) {
    float inverse[2];
#pragma unroll
    for (uint32_t h = 0; h < 2; ++h) {
      const float total = row_sum(sum[h]);
      inverse[h] = total > 0.0f ? 1.0f / total : 0.0f;
      const uint32_t r = row + 8 * h;
      if (lane % 4 == 0 && r < queries) lse_at[size_t(r) * heads] = most[h] * scale + logf(total);
    }
    named_sync(TOGETHER + group, WARPGROUP);  // no warp's product reads the queries any more
    const uint32_t first = row - lane / 4;
    stage<D, 1>(room.q, first, reinterpret_cast<const float(&)[1][D / 8][4]>(o), [&](int, int h) { return inverse[h]; });
    store_rows<D, 1>(room.q, first, [&](uint32_t r) { return r < queries ? o_at + r * width : nullptr; });
    fence_proxy_async();  // the next queries come by the copy engine
    mbar_arrive(room.q_empty);
  }
};

template <int D, bool BRANCHING>
PRIM void forward(bf16* __restrict__ o, float* __restrict__ lse, const CUtensorMap* q, const CUtensorMap* k, const CUtensorMap* v,
                  const AttentionQueryTile* __restrict__ tiles, const uint32_t* __restrict__ branches, uint32_t entries,
                  const AttentionParams& p) {
  DYNAMIC_SHARED(bf16, shared);
  const Room<D> room(shared);
  if (threadIdx.x == 0) room.prepare();
  __syncthreads();
  if (threadIdx.x < WARPGROUP) {
    setmaxnreg_dec<FETCHING>();
    if (threadIdx.x < WARP) fetch<D, BRANCHING>(room, q, k, v, tiles, entries, p);
    return;
  }
  setmaxnreg_inc<MULTIPLYING>();
  Multiply<D> state(room);
  const size_t width = size_t(p.heads) * D;
  uint32_t step = 0, entry = 0;
  if (state.group == 1) state.your_turn();  // the first warpgroup begins
  each_entry(tiles, entries, p.heads, [&](const AttentionQueryTile& t, uint32_t head) {
    if (t.queries == 0) return;
    const auto rounds = rounds_of<BRANCHING>(t);
    bf16* o_at = o + t.query * width + head * D;
    float* lse_at = lse + size_t(t.query) * p.heads + head;
    if (rounds.count == 0) {
      const uint32_t thread = threadIdx.x - WARPGROUP;
      clear_rows<D>(o_at, width, t.queries, thread, CONSUMERS);
      for (uint32_t r = thread; r < t.queries; r += CONSUMERS) lse_at[size_t(r) * p.heads] = -INFINITY;
      return;
    }
    const KeysSeen seen(t, state.group, state.row, BRANCHING ? branches : nullptr);
    mbar_wait(room.q_full, entry % 2);
    state.attend(rounds, seen, step, p.scale * LOG2_E);
    state.write(o_at, lse_at, width, p.heads, t.queries, p.scale);
    step += rounds.count, ++entry;
  });
  if (state.group == 0) state.my_turn();  // every turn that is given is taken
}
}  // namespace

#define ATTENTION_SM90_FORWARD(D)                                                                             \
  extern "C" __global__ void __launch_bounds__(ATTENTION_SM90_THREADS, 1) attention_sm90_forward_bf16_d##D(     \
      bf16* o, float* lse, const __grid_constant__ CUtensorMap q, const __grid_constant__ CUtensorMap k,        \
      const __grid_constant__ CUtensorMap v, const AttentionQueryTile* tiles, const uint32_t entries,           \
      const AttentionParams p) {                                                                                \
    forward<D, false>(o, lse, &q, &k, &v, tiles, nullptr, entries, p);                                          \
  }                                                                                                             \
  extern "C" __global__ void __launch_bounds__(ATTENTION_SM90_THREADS, 1) attention_sm90_forward_branching_bf16_d##D( \
      bf16* o, float* lse, const __grid_constant__ CUtensorMap q, const __grid_constant__ CUtensorMap k,        \
      const __grid_constant__ CUtensorMap v, const AttentionQueryTile* tiles, const uint32_t* from,             \
      const uint32_t entries, const AttentionParams p) {                                                        \
    forward<D, true>(o, lse, &q, &k, &v, tiles, from, entries, p);                                              \
  }
ATTENTION_SM90_FORWARD(64)
ATTENTION_SM90_FORWARD(128)
SIMT_EXPORT(attention_sm90_forward_bf16_d64)
SIMT_EXPORT(attention_sm90_forward_bf16_d128)
SIMT_EXPORT(attention_sm90_forward_branching_bf16_d64)
SIMT_EXPORT(attention_sm90_forward_branching_bf16_d128)
