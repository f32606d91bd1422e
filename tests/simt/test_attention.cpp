// attention on the emulation against the plain formulas in double.
#include "check.h"
#include "../../kernels/attention.cu"

namespace {
using Lengths = std::vector<uint32_t>;

struct Case {
  unsigned heads, kv_heads, d;
  Lengths queries, keys;   // of each segment
  float sharpness = 1.0f;  // factor of q: 20 makes the softmax nearly a choice
  unsigned spare = 0;      // rows behind the last segment, which must come out as zeros

  size_t total(const Lengths& n) const { size_t s = spare; for (uint32_t x : n) s += x; return s; }
  size_t nq() const { return total(queries) * heads * d; }
  size_t nk() const { return total(keys) * kv_heads * d; }
  AttentionParams params() const { return {heads, kv_heads, 1.0f / std::sqrt(float(d))}; }
  std::string name() const {
    std::string s = "attention " + std::to_string(heads) + "/" + std::to_string(kv_heads) + "x" + std::to_string(d);
    for (size_t b = 0; b < queries.size(); ++b) s += " " + std::to_string(queries[b]) + ":" + std::to_string(keys[b]);
    return s;
  }
};

// Calls f(query row, first key row, keys seen, query head, kv head).
template <class F> void each(const Case& c, F f) {
  size_t q = 0, k = 0;
  for (size_t b = 0; b < c.queries.size(); ++b) {
    for (size_t i = 0; i < c.queries[b]; ++i) {
      for (unsigned h = 0; h < c.heads; ++h) {
        f(q + i, k, c.keys[b] - c.queries[b] + i + 1, h, h / (c.heads / c.kv_heads));
      }
    }
    q += c.queries[b], k += c.keys[b];
  }
}

template <class R> using Arrays = std::vector<std::vector<R>>;

template <class R> R dot(const R* a, const R* b, unsigned n) {
  R sum = 0;
  for (unsigned i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

// o and lse.
template <class R> Arrays<R> forward(const Case& c, const std::vector<R>& q, const std::vector<R>& k, const std::vector<R>& v) {
  const R scale = c.params().scale;
  std::vector<R> o(q.size()), lse(c.total(c.queries) * c.heads);
  each(c, [&](size_t t, size_t first, size_t seen, unsigned h, unsigned g) {
    const size_t row = (t * c.heads + h) * c.d;
    const auto key = [&](size_t j) { return ((first + j) * c.kv_heads + g) * c.d; };
    std::vector<R> x(seen);
    R m = -INFINITY, z = 0;
    for (size_t j = 0; j < seen; ++j) x[j] = scale * dot(&q[row], &k[key(j)], c.d), m = std::max(m, x[j]);
    for (R& e : x) e = std::exp(e - m), z += e;
    lse[t * c.heads + h] = m + std::log(z);
    for (size_t j = 0; j < seen; ++j) {
      for (unsigned i = 0; i < c.d; ++i) o[row + i] += x[j] / z * v[key(j) + i];
    }
  });
  return {o, lse};
}

// dq, dk, dv from `kept`, o and lse.
template <class R>
Arrays<R> backward(const Case& c, const std::vector<R>& q, const std::vector<R>& k, const std::vector<R>& v, const Arrays<R>& kept,
                   const std::vector<R>& d_o) {
  const R scale = c.params().scale;
  Arrays<R> g = {std::vector<R>(q.size()), std::vector<R>(k.size()), std::vector<R>(v.size())};
  each(c, [&](size_t t, size_t first, size_t seen, unsigned h, unsigned kv) {
    const size_t row = (t * c.heads + h) * c.d;
    const R delta = dot(&kept[0][row], &d_o[row], c.d);
    for (size_t j = 0; j < seen; ++j) {
      const size_t key = ((first + j) * c.kv_heads + kv) * c.d;
      const R p = std::exp(scale * dot(&q[row], &k[key], c.d) - kept[1][t * c.heads + h]);
      const R ds = scale * p * (dot(&d_o[row], &v[key], c.d) - delta);
      for (unsigned i = 0; i < c.d; ++i) {
        g[0][row + i] += ds * k[key + i], g[1][key + i] += ds * q[row + i], g[2][key + i] += p * d_o[row + i];
      }
    }
  });
  return g;
}

// The tiles of every segment, longest first, and `idle` entries to skip.
std::vector<AttentionQueryTile> query_tiles(const Case& c, unsigned idle) {
  std::vector<AttentionQueryTile> tiles;
  uint32_t q = 0, k = 0;
  for (size_t b = 0; b < c.queries.size(); ++b) {
    for (uint32_t i = 0; i < c.queries[b]; i += ATTENTION_ROWS) {
      const uint32_t n = std::min<uint32_t>(ATTENTION_ROWS, c.queries[b] - i);
      tiles.push_back({q + i, n, k, c.keys[b] - c.queries[b] + i + n});
    }
    q += c.queries[b], k += c.keys[b];
  }
  for (uint32_t i = 0; i < c.spare; i += ATTENTION_ROWS) tiles.push_back({q + i, std::min<uint32_t>(ATTENTION_ROWS, c.spare - i), k, 0});
  std::stable_sort(tiles.begin(), tiles.end(), [](auto& a, auto& b) { return a.keys > b.keys; });
  tiles.resize(tiles.size() + idle);
  return tiles;
}

std::vector<AttentionKeyTile> key_tiles(const Case& c, unsigned idle) {
  std::vector<AttentionKeyTile> tiles;
  uint32_t q = 0, k = 0;
  for (size_t b = 0; b < c.queries.size(); ++b) {
    const uint32_t before = c.keys[b] - c.queries[b];  // keys that every query sees
    for (uint32_t i = 0; i < c.keys[b]; i += ATTENTION_ROWS) {
      const uint32_t first = std::min(i > before ? i - before : 0, c.queries[b]);
      tiles.push_back({k + i, std::min<uint32_t>(ATTENTION_ROWS, c.keys[b] - i), q + first, c.queries[b] - first, before + first - i});
    }
    q += c.queries[b], k += c.keys[b];
  }
  for (uint32_t i = 0; i < c.spare; i += ATTENTION_ROWS) tiles.push_back({k + i, std::min<uint32_t>(ATTENTION_ROWS, c.spare - i), 0, 0, 0});
  std::stable_sort(tiles.begin(), tiles.end(), [](auto& a, auto& b) { return a.queries > b.queries; });
  tiles.resize(tiles.size() + idle);
  return tiles;
}

using ForwardKernel = decltype(&attention_forward_bf16_d64);
ForwardKernel forward_kernel(unsigned d) {
  return d == 16 ? attention_forward_bf16_d16 : d == 32 ? attention_forward_bf16_d32
       : d == 64 ? attention_forward_bf16_d64 : attention_forward_bf16_d128;
}

auto keys_kernel(unsigned d) {
  return d == 16 ? attention_backward_keys_bf16_d16 : d == 32 ? attention_backward_keys_bf16_d32
       : d == 64 ? attention_backward_keys_bf16_d64 : attention_backward_keys_bf16_d128;
}
auto queries_kernel(unsigned d) {
  return d == 16 ? attention_backward_queries_bf16_d16 : d == 32 ? attention_backward_queries_bf16_d32
       : d == 64 ? attention_backward_queries_bf16_d64 : attention_backward_queries_bf16_d128;
}

std::vector<uint32_t> bf16_bits(const Buf<bf16>& b) {
  std::vector<uint32_t> v(b.n);
  for (size_t i = 0; i < b.n; ++i) v[i] = b[i].x;
  return v;
}
std::vector<float> values(const std::vector<uint32_t>& b) {
  std::vector<float> v(b.size());
  for (size_t i = 0; i < b.size(); ++i) v[i] = __bfloat162float({uint16_t(b[i])});
  return v;
}
bf16 nan_bf16() { return __float2bfloat16_rn(NAN); }

void run(const Case& c) {
  const std::string what = c.name();
  const auto q = round_bf16(normal(c.nq(), 1, c.sharpness)), k = round_bf16(normal(c.nk(), 2)), v = round_bf16(normal(c.nk(), 3));
  const Buf<bf16> bq(to_bf16(q)), bk(to_bf16(k)), bv(to_bf16(v));
  const auto plain = forward<float>(c, q, k, v);
  const auto truth = forward<double>(c, wide(q), wide(k), wide(v));
  const Buf<AttentionQueryTile> tiles(query_tiles(c, 2));

  const auto got = under_all_schedules(what, [&] {
    Buf<bf16> o(c.nq(), nan_bf16());
    Buf<float> lse(truth[1].size(), NAN);
    simt::launch(forward_kernel(c.d), dim3(unsigned(tiles.n) * c.heads), dim3(ATTENTION_WARPS * 32),
                 ATTENTION_FORWARD_BYTES * c.d, o.get(), lse.get(), bq.get(), bk.get(), bv.get(), tiles.get(), c.params());
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
    simt::launch(keys_kernel(c.d), dim3(unsigned(by_key.n) * c.kv_heads), dim3(threads), shared + ATTENTION_STATS_BYTES, dk.get(), dv.get(),
                 bq.get(), bk.get(), bv.get(), bdo.get(), blse.get(), delta.get(), by_key.get(), c.params());
    simt::launch(queries_kernel(c.d), dim3(unsigned(tiles.n) * c.heads), dim3(threads), shared, dq.get(), bq.get(), bk.get(), bv.get(),
                 bdo.get(), blse.get(), delta.get(), tiles.get(), c.params());
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
  require(simt::stats.ldmatrix_conflicts == 0, "attention: ldmatrix without bank conflicts");
  printf("attention: ok, %lu switches, %lu ldmatrix\n", simt::stats.switches, simt::stats.ldmatrix);
}
