// attention_sm90 on the emulation against the plain formulas in double.
#include "attention_case.h"
#include "../../kernels/attention_sm90.cu"

namespace {
void run(const Case& c, unsigned blocks) {
  const std::string what = c.name();
  const auto q = round_bf16(normal(c.nq(), 1, c.sharpness));
  auto k = round_bf16(normal(c.nk(), 2)), v = round_bf16(normal(c.nk(), 3));
  const auto plain = forward<float>(c, q, k, v);
  const auto truth = forward<double>(c, wide(q), wide(k), wide(v));
  // What lies behind the segments must not matter, whatever it is.
  for (size_t i = 0; i < c.spare * c.kv_heads * c.d; ++i) k[k.size() - 1 - i] = v[v.size() - 1 - i] = NAN;
  const Buf<bf16> bq(to_bf16(q)), bk(to_bf16(k)), bv(to_bf16(v));
  const Buf<AttentionQueryTile> tiles(query_tiles(c, 2));
  const CUtensorMap mq = map_of(bq, c.heads * c.d, ATTENTION_SM90_BOX), mk = map_of(bk, c.kv_heads * c.d, ATTENTION_SM90_COLUMNS),
                    mv = map_of(bv, c.kv_heads * c.d, ATTENTION_SM90_COLUMNS);
  const auto kernel = c.d == 64 ? attention_sm90_forward_bf16_d64 : attention_sm90_forward_bf16_d128;
  const auto branching = c.d == 64 ? attention_sm90_forward_branching_bf16_d64 : attention_sm90_forward_branching_bf16_d128;
  const Buf<uint32_t> from(branches(c));
  const auto got = under_all_schedules(what, [&] {
    Buf<bf16> o(c.nq(), nan_bf16());
    Buf<float> lse(truth[1].size(), NAN);
    const unsigned shared = ATTENTION_SM90_FORWARD_BYTES * c.d + ATTENTION_SM90_BARRIER_BYTES;
    const uint32_t entries = uint32_t(tiles.n) * c.heads;
    if (c.answers.empty()) {
      simt::launch(kernel, dim3(blocks), dim3(ATTENTION_SM90_THREADS), shared, o.get(), lse.get(), mq, mk, mv, tiles.get(), entries,
                   c.params());
    } else {
      simt::launch(branching, dim3(blocks), dim3(ATTENTION_SM90_THREADS), shared, o.get(), lse.get(), mq, mk, mv, tiles.get(), from.get(),
                   entries, c.params());
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
}
}  // namespace

int main() {
  run({1, 1, 64, {1}, {1}}, 1);
  run({4, 2, 64, {2, 17, 0, 33, 1}, {2, 17, 0, 33, 1}}, 3);  // several entries a block
  run({2, 1, 64, {40, 131}, {300, 131}, 1, 5}, 4);           // behind a cache; ragged tiles, rows of no segment
  run({1, 1, 128, {130}, {150}}, 1);
  run({2, 1, 128, {70}, {270}, 20, 3}, 2);
  run({1, 1, 64, {257}, {385}, 20}, 2);
  // Answers of 3 to 140 tokens behind prompts; a prompt that is cached but for its last five; nothing that branches.
  run({2, 1, 64, {100 + 87, 9}, {100 + 87, 9}, 1, 0, {{4, 70, 1, 4, 4, 4}}}, 3);
  run({1, 1, 128, {2, 75, 40}, {5, 210, 40}, 1, 5, {{}, {3, 66, 1}, {39}}}, 2);
  run({1, 1, 64, {160, 478}, {160, 478}, 20, 0, {{3, 3, 3, 140}, {128, 300, 20}}}, 1);  // tiles within an answer and across its end
  printf("attention_sm90: ok, %lu switches\n", simt::stats.switches);
}
