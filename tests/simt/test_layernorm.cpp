// layernorm on the emulation against the plain formulas in double.
#include "check.h"
#include "../../kernels/layernorm.cu"

namespace {
template <class R> struct Out { std::vector<R> y, mean, rstd; };
template <class R> struct Grad { std::vector<R> dx, dw, db; };

template <class R>
Out<R> forward(const LayernormParams& p, const std::vector<R>& x, const std::vector<R>& w, const std::vector<R>& b) {
  Out<R> o;
  for (size_t r = 0; r < p.rows; ++r) {
    const R* row = x.data() + r * p.width;
    R mean = 0, square = 0;
    for (size_t c = 0; c < p.width; ++c) mean += row[c];
    mean /= R(p.width);
    for (size_t c = 0; c < p.width; ++c) square += (row[c] - mean) * (row[c] - mean);
    const R s = R(1) / std::sqrt(square / R(p.width) + R(p.eps));
    for (size_t c = 0; c < p.width; ++c) o.y.push_back((row[c] - mean) * s * w[c] + b[c]);
    o.mean.push_back(mean), o.rstd.push_back(s);
  }
  return o;
}
template <class R>
Grad<R> backward(const LayernormParams& p, const std::vector<R>& x, const std::vector<R>& w, const std::vector<R>& mean, const std::vector<R>& rstd, const std::vector<R>& dy, Grad<R> g) {
  for (size_t r = 0; r < p.rows; ++r) {
    R a = 0, b = 0;
    auto n = [&](size_t c) { return (x[r * p.width + c] - mean[r]) * rstd[r]; };
    for (size_t c = 0; c < p.width; ++c) a += dy[r * p.width + c] * w[c], b += dy[r * p.width + c] * w[c] * n(c);
    a /= R(p.width), b /= R(p.width);
    for (size_t c = 0; c < p.width; ++c) {
      const size_t i = r * p.width + c;
      const R d = rstd[r] * (dy[i] * w[c] - a - n(c) * b);
      g.dx[i] = p.add ? g.dx[i] + d : d;
      g.dw[c] += dy[i] * n(c), g.db[c] += dy[i];
    }
  }
  return g;
}
// As the launcher sets them.
LayernormParams params(unsigned rows, unsigned width, float eps, bool add) {
  const unsigned lanes = width <= 32 ? 4 : width <= 64 ? 8 : width <= 128 ? 16 : 32;
  return {rows, width, eps, add, lanes, std::clamp(16384 / width, 16u, unsigned(LAYERNORM_TILE))};
}

template <class X, class Y>
using Fore = void (*)(Y*, float*, float*, const X*, const float*, const float*, LayernormParams);
template <class X, class DY>
using Back = void (*)(X*, float*, const X*, const float*, const float*, const float*, const DY*, LayernormParams);
template <class X, class Y> void both(const LayernormParams& p, float shift, Fore<X, Y> fore, Back<X, Y> back) {
  const std::string what = "layernorm " + std::to_string(p.rows) + "x" + std::to_string(p.width) + " " + type_name<X>() + " " + type_name<Y>();
  const size_t n = size_t(p.rows) * p.width;
  auto x = normal(n, 1);
  for (float& v : x) v += shift;
  x = exact<X>(x);
  const auto w = normal(p.width, 2), b = normal(p.width, 6), dy = exact<Y>(normal(n, 3));
  const Buf<X> bx(typed<X>(x));
  const Buf<Y> bdy(typed<Y>(dy));
  const Buf<float> bw(w), bb(b);
  const auto plain = forward<float>(p, x, w, b);
  const auto truth = forward<double>(p, wide(x), wide(w), wide(b));
  const unsigned rows = LAYERNORM_THREADS / p.lanes, tiles = (p.rows + p.tile - 1) / p.tile;
  const auto got = under_all_schedules(what, [&] {
    Buf<Y> y(typed<Y>(poison(n)));
    Buf<float> mean(p.rows, NAN), rstd(p.rows, NAN);
    simt::launch(fore, dim3((p.rows + rows - 1) / rows), dim3(LAYERNORM_THREADS), 0, y.get(), mean.get(), rstd.get(), bx.get(), bw.get(), bb.get(), p);
    return std::vector{bits(y.copy()), bits(mean.copy()), bits(rstd.copy())};
  });
  require_near_as<Y>(floats(got[0]), truth.y, plain.y, what + " y");
  require_near(floats(got[1]), truth.mean, plain.mean, what + " mean");
  require_near(floats(got[2]), truth.rstd, plain.rstd, what + " rstd");

  const auto &mean = plain.mean, &rstd = plain.rstd;
  const Grad<float> start{p.add ? exact<X>(normal(n, 4)) : poison(n), normal(p.width, 5), normal(p.width, 7)};
  const auto plain_d = backward<float>(p, x, w, mean, rstd, dy, start);
  const auto true_d = backward<double>(p, wide(x), wide(w), wide(mean), wide(rstd), wide(dy), {wide(start.dx), wide(start.dw), wide(start.db)});
  const Buf<float> bmean(mean), brstd(rstd);
  const auto d = under_all_schedules(what, [&] {
    Buf<X> dx(typed<X>(start.dx));
    Buf<float> dw(start.dw), db(start.db), partial(size_t(2) * tiles * p.width, NAN);
    simt::launch(back, dim3(tiles), dim3(LAYERNORM_THREADS), 0, dx.get(), partial.get(), bx.get(), bw.get(), bmean.get(), brstd.get(), bdy.get(), p);
    simt::launch(layernorm_backward_fold, dim3((p.width + 31) / 32, 2), dim3(32 * LAYERNORM_FOLD), 0, dw.get(), db.get(), partial.get(), p);
    return std::vector{bits(dx.copy()), bits(dw.copy()), bits(db.copy())};
  });
  require_near_as<X>(floats(d[0]), true_d.dx, plain_d.dx, what + " dx");
  require_near(floats(d[1]), true_d.dw, plain_d.dw, what + " dw");
  require_near(floats(d[2]), true_d.db, plain_d.db, what + " db");
}
void run(const LayernormParams& p, float shift) {
  both<float, float>(p, shift, layernorm_forward_f32, layernorm_backward_f32);
  both<float, bf16>(p, shift, layernorm_forward_f32_bf16, layernorm_backward_f32_bf16);
  both<bf16, bf16>(p, shift, layernorm_forward_bf16, layernorm_backward_bf16);
}
}  // namespace

int main() {
  run(params(1, 1, 1, false), 0);
  run(params(3, 7, 1e-6f, true), 2);
  run(params(37, 64, 1e-6f, false), 50);  // a mean far above the deviation
  run(params(70, 136, 1e-5f, true), 1);   // a ragged tile of rows, whole vectors
  run({40, 20, 1e-5f, true, 4, 3}, 1);    // more tiles than one
  run({5, 2051, 1e-5f, false, 32, 2}, 0);  // more chunks of columns than threads
  run({3, 1100, 1e-5f, true, 32, 16}, 0);  // more than half as many, so one row group
  printf("layernorm: ok, %lu switches\n", simt::stats.switches);
}
