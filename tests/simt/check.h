// What the emulated kernels are checked with: exact-size buffers, seeded inputs, the noise rule, and a
// walk over schedules that must all give the same bits.
#pragma once
#include <algorithm>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <vector>
#include <cuda_bf16.h>
#include "simt.h"

// Exact-size heap memory: ASan then sees an access one element past the end.
template <class T> struct Buf {
  size_t n;
  std::unique_ptr<T[]> p;
  explicit Buf(size_t n_, T fill = T()) : n(n_), p(new T[n_]) { std::fill_n(p.get(), n, fill); }
  explicit Buf(const std::vector<T>& v) : Buf(v.size()) { std::copy(v.begin(), v.end(), p.get()); }
  T* get() const { return p.get(); }
  T& operator[](size_t i) const { return p[i]; }
  std::vector<T> copy() const { return {p.get(), p.get() + n}; }
};

inline std::vector<float> normal(size_t n, unsigned seed, float scale = 1.0f) {
  std::mt19937 g(seed);
  std::normal_distribution<float> d;
  std::vector<float> v(n);
  for (float& x : v) x = d(g) * scale;
  return v;
}
inline std::vector<double> wide(const std::vector<float>& v) { return {v.begin(), v.end()}; }
inline std::vector<float> poison(size_t n) { return std::vector<float>(n, NAN); }

inline void require(bool ok, const std::string& what) {
  if (!ok) printf("FAILED: %s\n", what.c_str()), exit(1);
}

// The project's noise rule: as far from the f64 truth as twice what rounding costs the plain formula
// in f32, plus four steps of f32 at the truth's largest magnitude.
inline void require_near(const std::vector<float>& y, const std::vector<double>& truth,
                         const std::vector<float>& plain, const std::string& what) {
  require(y.size() == truth.size() && plain.size() == truth.size(), what + ": length");
  double noise = 0, largest = 0;
  for (size_t i = 0; i < truth.size(); ++i) {
    noise = std::max(noise, std::fabs(plain[i] - truth[i]));
    largest = std::max(largest, std::fabs(truth[i]));
  }
  const double allowed = 2 * noise + 4 * 1.1920929e-7 * largest;
  for (size_t i = 0; i < truth.size(); ++i) {
    const double off = std::fabs(y[i] - truth[i]);
    if (!(off <= allowed)) {
      printf("%s: element %zu is %.9g, truth %.9g: off by %.3g, %.3g allowed\n", what.c_str(), i,
             double(y[i]), truth[i], off, allowed);
      require(false, what);
    }
  }
}

// Rounds to the nearest bf16, ties to even: inputs that a kernel on bf16 and its reference share.
inline std::vector<float> round_bf16(std::vector<float> v) {
  for (float& x : v) x = __bfloat162float(__float2bfloat16_rn(x));
  return v;
}
inline std::vector<__nv_bfloat16> to_bf16(const std::vector<float>& v) {
  std::vector<__nv_bfloat16> b(v.size());
  for (size_t i = 0; i < v.size(); ++i) b[i] = __float2bfloat16_rn(v[i]);
  return b;
}
inline std::vector<float> from_bf16(const std::vector<__nv_bfloat16>& b) {
  std::vector<float> v(b.size());
  for (size_t i = 0; i < b.size(); ++i) v[i] = __bfloat162float(b[i]);
  return v;
}

// require_near for a result that is stored in bf16 once: an element may lie one bf16 step of its own
// magnitude further off. `inner`: what rounding intermediates to bf16 costs beside that, relative to
// the truth's largest magnitude (0 where a kernel keeps f32 inside).
inline void require_near_bf16(const std::vector<float>& y, const std::vector<double>& truth,
                              const std::vector<float>& plain, double inner, const std::string& what) {
  require(y.size() == truth.size() && plain.size() == truth.size(), what + ": length");
  double noise = 0, largest = 0;
  for (size_t i = 0; i < truth.size(); ++i) {
    noise = std::max(noise, std::fabs(plain[i] - truth[i]));
    largest = std::max(largest, std::fabs(truth[i]));
  }
  for (size_t i = 0; i < truth.size(); ++i) {
    const double off = std::fabs(y[i] - truth[i]);
    const double allowed = 2 * noise + (4 * 1.1920929e-7 + inner) * largest + std::fabs(truth[i]) / 256;
    if (!(off <= allowed)) {
      printf("%s: element %zu is %.9g, truth %.9g: off by %.3g, %.3g allowed\n", what.c_str(), i,
             double(y[i]), truth[i], off, allowed);
      require(false, what);
    }
  }
}

// The same for kernels that are written for f32 and for bf16: values of T from f32 and back, inputs that T
// holds exactly, and the rule for a result of that type.
template <class T> std::vector<T> typed(const std::vector<float>& v) {
  if constexpr (std::is_same_v<T, float>) return v;
  else return to_bf16(v);
}
inline std::vector<float> untyped(const std::vector<float>& v) { return v; }
inline std::vector<float> untyped(const std::vector<__nv_bfloat16>& v) { return from_bf16(v); }
template <class T> std::vector<float> exact(const std::vector<float>& v) { return untyped(typed<T>(v)); }
template <class T> const char* type_name() { return std::is_same_v<T, float> ? "f32" : "bf16"; }
template <class T>
void require_near_as(const std::vector<float>& y, const std::vector<double>& truth,
                     const std::vector<float>& plain, const std::string& what) {
  if constexpr (std::is_same_v<T, float>) require_near(y, truth, plain, what);
  else require_near_bf16(y, truth, plain, 0, what);
}

// Runs `f` under several orders of blocks, warps and lanes and both asynchronous policies; every run
// must return what the first did, bit for bit. A set SIMT_ORDER narrows it to that one.
template <class F> auto under_all_schedules(const std::string& what, F f) {
  const char* only = getenv("SIMT_ORDER");
  const std::vector<std::string> orders = only ? std::vector<std::string>{only}
                                               : std::vector<std::string>{"fwd", "rev", "7", "123"};
  decltype(f()) first;
  bool have = false;
  for (const std::string& order : orders) {
    for (const char* async : {"late", "eager"}) {
      setenv("SIMT_ORDER", order.c_str(), 1);
      setenv("SIMT_ASYNC", async, 1);
      auto got = f();
      if (have) require(got == first, what + ": other bits under order " + order + ", " + async);
      first = std::move(got), have = true;
    }
  }
  if (only) setenv("SIMT_ORDER", orders[0].c_str(), 1);
  else unsetenv("SIMT_ORDER");
  unsetenv("SIMT_ASYNC");
  return first;
}

// Bits of floats, so that NaN equals NaN and −0 differs from +0.
inline std::vector<uint32_t> bits(const std::vector<float>& v) {
  std::vector<uint32_t> b(v.size());
  if (!v.empty()) memcpy(b.data(), v.data(), 4 * v.size());
  return b;
}
inline std::vector<uint32_t> bits(const std::vector<__nv_bfloat16>& v) { return bits(from_bf16(v)); }
inline std::vector<float> floats(const std::vector<uint32_t>& b) {
  std::vector<float> v(b.size());
  if (!v.empty()) memcpy(v.data(), b.data(), 4 * v.size());
  return v;
}
