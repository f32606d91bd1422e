// attention_backward_sm90 on the emulation against the plain formulas in double.
#include "attention_case.h"
#include "../../kernels/attention_backward_sm90.cu"

namespace {
void run(const Case& c, unsigned blocks) {
  const std::string what = c.name();
  auto q = round_bf16(normal(c.nq(), 1, c.sharpness)), k = round_bf16(normal(c.nk(), 2)), v = round_bf16(normal(c.nk(), 3));
  const auto kept = forward<double>(c, wide(q), wide(k), wide(v));
  // o as backward gets it: rounded to bf16, which is part of its input.
  const auto o = round_bf16(std::vector<float>(kept[0].begin(), kept[0].end()));
  auto d_o = round_bf16(normal(c.nq(), 4));
  std::vector<float> lse(kept[1].begin(), kept[1].end());
  const auto plain = backward<float>(c, q, k, v, {o, lse}, d_o);
  const auto truth = backward<double>(c, wide(q), wide(k), wide(v), {wide(o), wide(lse)}, wide(d_o));
  std::vector<float> delta(lse.size());
  for (size_t i = 0; i < delta.size(); ++i) delta[i] = dot(&o[i * c.d], &d_o[i * c.d], c.d);
  // What lies behind the segments must not matter, whatever it is.
  for (size_t i = 0; i < c.spare * c.kv_heads * c.d; ++i) k[k.size() - 1 - i] = v[v.size() - 1 - i] = NAN;
  for (size_t i = 0; i < c.spare * c.heads * c.d; ++i) q[q.size() - 1 - i] = d_o[d_o.size() - 1 - i] = NAN;
  for (size_t i = 0; i < c.spare * c.heads; ++i) lse[lse.size() - 1 - i] = delta[delta.size() - 1 - i] = NAN;

  const Buf<bf16> bq(to_bf16(q)), bk(to_bf16(k)), bv(to_bf16(v)), bdo(to_bf16(d_o));
  const Buf<float> blse(lse), bdelta(delta);
  const Buf<AttentionQueryTile> by_query(query_tiles(c, 2));
  const Buf<AttentionKeyTile> by_key(key_tiles(c, 2));
  const Buf<uint32_t> from(branches(c));
  const unsigned width = c.heads * c.d, kv_width = c.kv_heads * c.d, step = ATTENTION_SM90_STEP / c.d, box = ATTENTION_SM90_BOX;
  const unsigned shared = ATTENTION_SM90_BACKWARD_BYTES * c.d + ATTENTION_SM90_RING_BYTES + ATTENTION_SM90_BARRIER_BYTES;
  const dim3 grid(blocks), block(ATTENTION_SM90_THREADS);
  using Grads = std::vector<std::vector<uint32_t>>;
  const auto one_pass = [&](bool reduce) -> Grads {
    Buf<bf16> dq(c.nq(), nan_bf16()), dk(c.nk(), nan_bf16()), dv(c.nk(), nan_bf16());
    // Rows stand still in boxes of 64, columns go by in boxes of a step.
    const CUtensorMap q_by_step = map_of(bq, width, step), do_by_step = map_of(bdo, width, step), k_rows = map_of(bk, kv_width, box),
                      v_rows = map_of(bv, kv_width, box), q_rows = map_of(bq, width, box), do_rows = map_of(bdo, width, box),
                      k_by_step = map_of(bk, kv_width, step), v_by_step = map_of(bv, kv_width, step);
    const auto keys = [&](auto kernel, auto... more) {
      simt::launch(kernel, grid, block, shared, dk.get(), dv.get(), q_by_step, k_rows, v_rows, do_by_step, blse.get(), bdelta.get(), by_key.get(),
                   more..., uint32_t(by_key.n) * c.kv_heads, c.params());
    };
    const auto queries = [&](auto kernel, auto... more) {
      simt::launch(kernel, grid, block, shared, dq.get(), q_rows, k_by_step, v_by_step, do_rows, blse.get(), bdelta.get(), by_query.get(), more...,
                   uint32_t(by_query.n) * c.heads, c.params());
    };
    if (reduce) {
      const uint32_t tokens = uint32_t(c.total(c.queries)), rows = tokens + ATTENTION_SM90_SPARE, pieces = tokens * width / 8;
      Buf<float> sums(size_t(rows) * width, 0.0f);
      const auto launch = [&](auto kernel, auto... more) {
        simt::launch(kernel, grid, block, shared + ATTENTION_SM90_DS_BYTES * step + ATTENTION_SM90_SUMS_BYTES, dk.get(), dv.get(), sums.get(),
                     rows, q_by_step, k_rows, v_rows, do_by_step, blse.get(), bdelta.get(), by_key.get(), more...,
                     uint32_t(by_key.n) * c.kv_heads, c.params());
      };
      if (c.answers.empty()) launch(c.d == 64 ? attention_sm90_backward_reduce_bf16_d64 : attention_sm90_backward_reduce_bf16_d128);
      else launch(c.d == 64 ? attention_sm90_backward_reduce_branching_bf16_d64 : attention_sm90_backward_reduce_branching_bf16_d128, from.get());
      simt::launch(attention_sm90_backward_finish_bf16, dim3((pieces + ATTENTION_DELTA - 1) / ATTENTION_DELTA), dim3(ATTENTION_DELTA), 0, dq.get(),
                   sums.get(), tokens, width, rows, c.params().scale);
    } else if (c.answers.empty()) {
      keys(c.d == 64 ? attention_sm90_backward_keys_bf16_d64 : attention_sm90_backward_keys_bf16_d128);
      queries(c.d == 64 ? attention_sm90_backward_queries_bf16_d64 : attention_sm90_backward_queries_bf16_d128);
    } else {
      keys(c.d == 64 ? attention_sm90_backward_keys_branching_bf16_d64 : attention_sm90_backward_keys_branching_bf16_d128, from.get());
      queries(c.d == 64 ? attention_sm90_backward_queries_branching_bf16_d64 : attention_sm90_backward_queries_branching_bf16_d128, from.get());
    }
    return {bf16_bits(dq), bf16_bits(dk), bf16_bits(dv)};
  };
  // P and dS are rounded to bf16 before the products, half a step of 2⁻⁸ each.
  const auto check = [&](const Grads& grads, const std::string& how) {
    const char* names[] = {" dq", " dk", " dv"};
    for (int i = 0; i < 3; ++i) require_near_bf16(values(grads[i]), truth[i], plain[i], 1.0 / 256, what + names[i] + how);
  };
  check(under_all_schedules(what, [&] { return one_pass(false); }), "");
  // Sums of tiles in whatever order: dq may differ in its last bits, dk and dv may not.
  under_all_schedules(what + " reduced", [&] {
    const auto grads = one_pass(true);
    check(grads, " reduced");
    return std::vector{grads[1], grads[2]};
  });
}
}  // namespace

int main() {
  run({1, 1, 64, {1}, {1}}, 1);
  run({4, 2, 64, {2, 17, 0, 33, 1}, {2, 17, 0, 33, 1}}, 3);  // several entries a block
  run({2, 1, 64, {40, 131}, {300, 131}, 1, 5}, 4);           // behind a cache; keys that no query sees; ragged tiles
  run({1, 1, 128, {130}, {150}}, 1);
  run({2, 1, 128, {70}, {270}, 20, 3}, 2);
  run({1, 1, 64, {257}, {385}, 20}, 2);
  run({2, 1, 64, {100 + 87, 9}, {100 + 87, 9}, 1, 0, {{4, 70, 1, 4, 4, 4}}}, 3);
  run({1, 1, 128, {2, 75, 40}, {5, 210, 40}, 1, 5, {{}, {3, 66, 1}, {39}}}, 2);
  run({1, 1, 64, {160, 478}, {160, 478}, 20, 0, {{3, 3, 3, 140}, {128, 300, 20}}}, 1);  // tiles within an answer and across its end
  printf("attention_backward_sm90: ok, %lu switches\n", simt::stats.switches);
}
