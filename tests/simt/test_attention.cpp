// attention on the emulation against the plain formulas in double.
#include "attention_case.h"
#include "../../kernels/attention.cu"

namespace {
// NAME_of(d): the kernel for that head size.
#define BY_HEAD_SIZE(NAME)                                                        \
  auto NAME##_of(unsigned d) {                                                    \
    return d == 16 ? NAME##_bf16_d16 : d == 32 ? NAME##_bf16_d32 : d == 64 ? NAME##_bf16_d64 : NAME##_bf16_d128; \
  }
BY_HEAD_SIZE(attention_forward)
BY_HEAD_SIZE(attention_forward_branching)
BY_HEAD_SIZE(attention_backward_keys)
BY_HEAD_SIZE(attention_backward_keys_branching)
BY_HEAD_SIZE(attention_backward_queries)
BY_HEAD_SIZE(attention_backward_queries_branching)

void run(const Case& c) {
  const std::string what = c.name();
  const auto q = round_bf16(normal(c.nq(), 1, c.sharpness)), k = round_bf16(normal(c.nk(), 2)), v = round_bf16(normal(c.nk(), 3));
  const Buf<bf16> bq(to_bf16(q)), bk(to_bf16(k)), bv(to_bf16(v));
  const auto plain = forward<float>(c, q, k, v);
  const auto truth = forward<double>(c, wide(q), wide(k), wide(v));
  const Buf<AttentionQueryTile> tiles(query_tiles(c, 2));
  const bool branching = !c.answers.empty();
  const Buf<uint32_t> from(branches(c));

  const auto got = under_all_schedules(what, [&] {
    Buf<bf16> o(c.nq(), nan_bf16());
    Buf<float> lse(truth[1].size(), NAN);
    const dim3 grid(unsigned(tiles.n) * c.heads), block(ATTENTION_WARPS * 32);
    const unsigned shared = ATTENTION_FORWARD_BYTES * c.d;
    if (branching) {
      simt::launch(attention_forward_branching_of(c.d), grid, block, shared, o.get(), lse.get(), bq.get(), bk.get(), bv.get(),
                   tiles.get(), from.get(), c.params());
    } else {
      simt::launch(attention_forward_of(c.d), grid, block, shared, o.get(), lse.get(), bq.get(), bk.get(), bv.get(), tiles.get(),
                   c.params());
    }
    return std::pair(bf16_bits(o), bits(lse.copy()));
  });
  // Weights are rounded to bf16 before they meet the values: half a step of 2⁻⁸ each.
  require_near_bf16(values(got.first), truth[0], plain[0], 1.0 / 256, what + " o");
  auto lse = floats(got.second);
  for (size_t i = 0; i < c.spare * c.heads; ++i) {
    float& x = lse[lse.size() - 1 - i];
    require(x == -INFINITY, what + ": lse of a row without keys");
    x = 0;
  }
  require_near(lse, truth[1], plain[1], what + " lse");

  // o as backward gets it: rounded to bf16, which is part of its input.
  const auto o = round_bf16(std::vector<float>(truth[0].begin(), truth[0].end())), d_o = round_bf16(normal(c.nq(), 4));
  const std::vector<float> kept_lse(truth[1].begin(), truth[1].end());
  const auto plain_g = backward<float>(c, q, k, v, {o, kept_lse}, d_o);
  const auto true_g = backward<double>(c, wide(q), wide(k), wide(v), {wide(o), wide(kept_lse)}, wide(d_o));
  const Buf<bf16> bo(to_bf16(o)), bdo(to_bf16(d_o));
  const Buf<float> blse(kept_lse);
  const Buf<AttentionKeyTile> by_key(key_tiles(c, 2));
  const unsigned threads = (c.d > 64 ? 2 : 1) * ATTENTION_WARPS * 32, shared = ATTENTION_BACKWARD_BYTES * c.d;
  const auto grads = under_all_schedules(what, [&] {
    Buf<bf16> dq(c.nq(), nan_bf16()), dk(c.nk(), nan_bf16()), dv(c.nk(), nan_bf16());
    Buf<float> delta(blse.n, NAN);
    const unsigned rows = ATTENTION_DELTA / (c.d / 8);
    simt::launch(attention_backward_delta_bf16, dim3((unsigned(delta.n) + rows - 1) / rows), dim3(ATTENTION_DELTA), 0, delta.get(),
                 bo.get(), bdo.get(), uint32_t(delta.n), c.d);
    const dim3 by_keys(unsigned(by_key.n) * c.kv_heads), by_queries(unsigned(tiles.n) * c.heads), block(threads);
    const unsigned stats = ATTENTION_STATS_BYTES;
    if (branching) {
      simt::launch(attention_backward_keys_branching_of(c.d), by_keys, block, shared + stats + ATTENTION_BRANCHES_BYTES, dk.get(), dv.get(),
                   bq.get(), bk.get(), bv.get(), bdo.get(), blse.get(), delta.get(), by_key.get(), from.get(), c.params());
      simt::launch(attention_backward_queries_branching_of(c.d), by_queries, block, shared, dq.get(), bq.get(), bk.get(), bv.get(),
                   bdo.get(), blse.get(), delta.get(), tiles.get(), from.get(), c.params());
    } else {
      simt::launch(attention_backward_keys_of(c.d), by_keys, block, shared + stats, dk.get(), dv.get(), bq.get(), bk.get(), bv.get(),
                   bdo.get(), blse.get(), delta.get(), by_key.get(), c.params());
      simt::launch(attention_backward_queries_of(c.d), by_queries, block, shared, dq.get(), bq.get(), bk.get(), bv.get(), bdo.get(),
                   blse.get(), delta.get(), tiles.get(), c.params());
    }
    return std::vector{bf16_bits(dq), bf16_bits(dk), bf16_bits(dv)};
  });
  // P and dS are rounded to bf16 before the products, half a step of 2⁻⁸ each.
  for (int i = 0; i < 3; ++i) require_near_bf16(values(grads[i]), true_g[i], plain_g[i], 1.0 / 256, what + (i == 0 ? " dq" : i == 1 ? " dk" : " dv"));
}
}  // namespace

int main() {
  run({1, 1, 64, {1}, {1}});
  run({4, 2, 64, {2, 17, 0, 33, 1}, {2, 17, 0, 33, 1}});
  run({2, 2, 32, {1, 0, 3}, {200, 5, 70}});            // behind a cache; keys that no query sees
  run({3, 1, 16, {40, 131}, {100, 131}, 1, 5});        // ragged tiles, rows of no segment
  run({8, 1, 16, {65}, {65}});
  run({1, 1, 128, {130}, {150}});
  run({2, 1, 128, {70}, {70}, 20});
  run({1, 1, 64, {257}, {257}, 20});
  // Answers of 3 to 70 tokens behind prompts; a prompt that is cached but for its last five; nothing that branches.
  run({2, 1, 64, {100 + 87, 9}, {100 + 87, 9}, 1, 0, {{4, 70, 1, 4, 4, 4}}});
  run({3, 1, 16, {2, 75, 40}, {5, 140, 40}, 1, 5, {{}, {3, 66, 1}, {39}}});
  run({2, 2, 32, {150}, {150}, 20, 0, {{3, 3, 3, 140}}});
  run({1, 1, 128, {90, 70}, {90, 140}, 1, 0, {{20, 30}, {70}}});
  require(simt::stats.ldmatrix_conflicts == 0, "attention: ldmatrix without bank conflicts");
  printf("attention: ok, %lu switches, %lu ldmatrix\n", simt::stats.switches, simt::stats.ldmatrix);
}
