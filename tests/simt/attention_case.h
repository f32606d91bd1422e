// What the tests of attention's kernels share: cases, the plain formulas in float and double, and the lists of tiles.
#pragma once
#include "attention_sm90.h"
#include "check.h"
#include <numeric>

using bf16 = __nv_bfloat16;
using Lengths = std::vector<uint32_t>;

struct Case {
  unsigned heads, kv_heads, d;
  Lengths queries, keys;   // of each segment
  float sharpness = 1.0f;  // factor of q: 20 makes the softmax nearly a choice
  unsigned spare = 0;      // rows behind the last segment, which must come out as zeros
  std::vector<Lengths> answers = {};  // of each segment that branches, at the end of its keys

  size_t total(const Lengths& n) const { size_t s = spare; for (uint32_t x : n) s += x; return s; }
  size_t nq() const { return total(queries) * heads * d; }
  size_t nk() const { return total(keys) * kv_heads * d; }
  uint32_t prompt(size_t b) const {
    return b < answers.size() ? keys[b] - std::accumulate(answers[b].begin(), answers[b].end(), 0u) : keys[b];
  }
  // Where the answer begins that the key at `position` of segment b is in; 0 in its prompt.
  uint32_t own(size_t b, uint32_t position) const {
    uint32_t at = prompt(b), start = 0;
    for (size_t i = 0; b < answers.size() && i < answers[b].size() && at <= position; ++i) start = at, at += answers[b][i];
    return start;
  }
  // The same for the end of that answer; the segment's end in its prompt, which all see.
  uint32_t own_end(size_t b, uint32_t position) const {
    uint32_t at = prompt(b);
    for (size_t i = 0; position >= at && b < answers.size() && i < answers[b].size(); ++i) {
      at += answers[b][i];
      if (position < at) return at;
    }
    return keys[b];
  }
  AttentionParams params() const { return {heads, kv_heads, 1.0f / std::sqrt(float(d))}; }
  std::string name() const {
    std::string s = "attention " + std::to_string(heads) + "/" + std::to_string(kv_heads) + "x" + std::to_string(d);
    for (size_t b = 0; b < queries.size(); ++b) s += " " + std::to_string(queries[b]) + ":" + std::to_string(keys[b]);
    for (const Lengths& a : answers) for (uint32_t n : a) s += " +" + std::to_string(n);
    return s;
  }
};

// Calls f(query row, key rows that it sees, query head, kv head).
template <class F> void each(const Case& c, F f) {
  size_t q = 0, k = 0;
  for (size_t b = 0; b < c.queries.size(); ++b) {
    for (uint32_t i = 0; i < c.queries[b]; ++i) {
      const uint32_t position = c.keys[b] - c.queries[b] + i, own = c.own(b, position);
      std::vector<size_t> seen;
      for (uint32_t j = 0; j <= position; ++j) if (j < c.prompt(b) || j >= own) seen.push_back(k + j);
      for (unsigned h = 0; h < c.heads; ++h) f(q + i, seen, h, h / (c.heads / c.kv_heads));
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
  each(c, [&](size_t t, const std::vector<size_t>& keys, unsigned h, unsigned g) {
    const size_t row = (t * c.heads + h) * c.d;
    const auto key = [&](size_t j) { return (keys[j] * c.kv_heads + g) * c.d; };
    const size_t seen = keys.size();
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
  each(c, [&](size_t t, const std::vector<size_t>& keys, unsigned h, unsigned kv) {
    const size_t row = (t * c.heads + h) * c.d;
    const R delta = dot(&kept[0][row], &d_o[row], c.d);
    for (size_t j : keys) {
      const size_t key = (j * c.kv_heads + kv) * c.d;
      const R p = std::exp(scale * dot(&q[row], &k[key], c.d) - kept[1][t * c.heads + h]);
      const R ds = scale * p * (dot(&d_o[row], &v[key], c.d) - delta);
      for (unsigned i = 0; i < c.d; ++i) {
        g[0][row + i] += ds * k[key + i], g[1][key + i] += ds * q[row + i], g[2][key + i] += p * d_o[row + i];
      }
    }
  });
  return g;
}

// f(first, rows) for tiles of rows `from` to `to`.
template <class F> void cut(uint32_t from, uint32_t to, F f) {
  for (uint32_t i = from; i < to; i += ATTENTION_ROWS) f(i, std::min<uint32_t>(ATTENTION_ROWS, to - i));
}

// The tiles of every segment, longest first, and `idle` entries to skip.
inline std::vector<AttentionQueryTile> query_tiles(const Case& c, unsigned idle) {
  std::vector<AttentionQueryTile> tiles;
  uint32_t q = 0, k = 0;
  for (size_t b = 0; b < c.queries.size(); ++b) {
    const uint32_t before = c.keys[b] - c.queries[b], prompt = c.prompt(b);
    const uint32_t answers = std::max(prompt, before) - before;  // the first query that is none of the prompt's
    cut(0, answers, [&](uint32_t i, uint32_t n) { tiles.push_back({q + i, n, k, before + i + n, 0, 0}); });
    cut(answers, c.queries[b], [&](uint32_t i, uint32_t n) {
      tiles.push_back({q + i, n, k, before + i + n, prompt, c.own(b, before + i)});
    });
    q += c.queries[b], k += c.keys[b];
  }
  cut(0, c.spare, [&](uint32_t i, uint32_t n) { tiles.push_back({q + i, n, k, 0, 0, 0}); });
  std::stable_sort(tiles.begin(), tiles.end(), [](auto& a, auto& b) { return a.keys > b.keys; });
  tiles.resize(tiles.size() + idle);
  return tiles;
}

inline std::vector<AttentionKeyTile> key_tiles(const Case& c, unsigned idle) {
  std::vector<AttentionKeyTile> tiles;
  uint32_t q = 0, k = 0;
  for (size_t b = 0; b < c.queries.size(); ++b) {
    const uint32_t before = c.keys[b] - c.queries[b], prompt = c.prompt(b);  // keys that every query sees
    const auto add = [&](uint32_t i, uint32_t n, uint32_t end, uint32_t branch) {
      const uint32_t first = std::min(i > before ? i - before : 0, c.queries[b]);
      const uint32_t last = std::max(first, end > before ? end - before : 0);
      tiles.push_back({k + i, n, q + first, last - first, before + first - i, branch});
    };
    cut(0, prompt, [&](uint32_t i, uint32_t n) { add(i, n, c.keys[b], 0); });
    cut(prompt, c.keys[b], [&](uint32_t i, uint32_t n) { add(i, n, c.own_end(b, i + n - 1), 1); });
    q += c.queries[b], k += c.keys[b];
  }
  cut(0, c.spare, [&](uint32_t i, uint32_t n) { tiles.push_back({k + i, n, 0, 0, 0, 0}); });
  std::stable_sort(tiles.begin(), tiles.end(), [](auto& a, auto& b) { return a.queries > b.queries; });
  tiles.resize(tiles.size() + idle);
  return tiles;
}

// For each row of q the row of k at which its own answer begins, of the prompt's its segment.
inline std::vector<uint32_t> branches(const Case& c) {
  std::vector<uint32_t> from;
  uint32_t k = 0;
  for (size_t b = 0; b < c.queries.size(); ++b) {
    for (uint32_t i = 0; i < c.queries[b]; ++i) from.push_back(k + c.own(b, c.keys[b] - c.queries[b] + i));
    k += c.keys[b];
  }
  from.resize(from.size() + c.spare);
  return from;
}

inline std::vector<uint32_t> bf16_bits(const Buf<bf16>& b) {
  std::vector<uint32_t> v(b.n);
  for (size_t i = 0; i < b.n; ++i) v[i] = b[i].x;
  return v;
}
inline std::vector<float> values(const std::vector<uint32_t>& b) {
  std::vector<float> v(b.size());
  for (size_t i = 0; i < b.size(); ++i) v[i] = __bfloat162float({uint16_t(b[i])});
  return v;
}
inline bf16 nan_bf16() { return __float2bfloat16_rn(NAN); }

// A matrix of so many columns as the copy engine sees it, in boxes of 64 columns.
inline CUtensorMap map_of(const Buf<bf16>& x, uint64_t columns, uint32_t rows_of_box) {
  CUtensorMap m;
  const uint64_t dims[] = {columns, x.n / columns}, strides[] = {columns * 2};
  const uint32_t box[] = {ATTENTION_SM90_BOX, rows_of_box};
  require(simt::tensor_map_encode(&m, 2, 2, x.get(), dims, strides, box, simt::kSwizzle128), "tensor map");
  return m;
}
