// rmsnorm on the emulation against the plain formulas in double.
#include "check.h"
#include "../../kernels/rmsnorm.cu"

namespace {
template <class R> struct Grad { std::vector<R> dx, dw; };

template <class R>
void forward(const RmsnormParams& p, const std::vector<R>& x, const std::vector<R>& w,
             std::vector<R>& y, std::vector<R>& rstd) {
  for (size_t r = 0; r < p.rows; ++r) {
    R sum = 0;
    for (size_t c = 0; c < p.width; ++c) sum += x[r * p.width + c] * x[r * p.width + c];
    rstd.push_back(R(1) / std::sqrt(sum / R(p.width) + R(p.eps)));
    for (size_t c = 0; c < p.width; ++c) y.push_back(x[r * p.width + c] * rstd[r] * w[c]);
  }
}
template <class R>
Grad<R> backward(const RmsnormParams& p, const std::vector<R>& x, const std::vector<R>& w,
                 const std::vector<R>& rstd, const std::vector<R>& dy, Grad<R> g) {
  for (size_t r = 0; r < p.rows; ++r) {
    R mean = 0;
    for (size_t c = 0; c < p.width; ++c) mean += dy[r * p.width + c] * w[c] * x[r * p.width + c];
    mean /= R(p.width);
    for (size_t c = 0; c < p.width; ++c) {
      const size_t i = r * p.width + c;
      const R d = rstd[r] * (dy[i] * w[c] - x[i] * rstd[r] * rstd[r] * mean);
      g.dx[i] = p.add ? g.dx[i] + d : d;
      g.dw[c] += dy[i] * x[i] * rstd[r];
    }
  }
  return g;
}

// As the launcher sets them.
RmsnormParams params(unsigned rows, unsigned width, float eps, bool add) {
  const unsigned lanes = width <= 32 ? 4 : width <= 64 ? 8 : width <= 128 ? 16 : 32;
  return {rows, width, eps, add, lanes, std::clamp(16384 / width, 16u, unsigned(RMSNORM_TILE))};
}

template <class X, class Y> void forward(const RmsnormParams& p, float scale, void (*kernel)(Y*, float*, const X*, const float*, RmsnormParams)) {
  const std::string what = "rmsnorm " + std::to_string(p.rows) + "x" + std::to_string(p.width) + " " + type_name<X>() + " " + type_name<Y>();
  const size_t n = size_t(p.rows) * p.width;
  const auto x = exact<X>(normal(n, 1, scale)), w = normal(p.width, 2);
  const Buf<X> bx(typed<X>(x));
  const Buf<float> bw(w);
  std::vector<float> y1, s1;
  std::vector<double> y2, s2;
  forward<float>(p, x, w, y1, s1);
  forward<double>(p, wide(x), wide(w), y2, s2);
  const unsigned rows = RMSNORM_THREADS / p.lanes;
  const auto got = under_all_schedules(what, [&] {
    Buf<Y> y(typed<Y>(poison(n)));
    Buf<float> rstd(p.rows, NAN);
    simt::launch(kernel, dim3((p.rows + rows - 1) / rows), dim3(RMSNORM_THREADS), 0, y.get(), rstd.get(), bx.get(), bw.get(), p);
    return std::pair(bits(y.copy()), bits(rstd.copy()));
  });
  require_near_as<Y>(floats(got.first), y2, y1, what + " y");
  require_near(floats(got.second), s2, s1, what + " rstd");
}

template <class X, class DY> using Back = void (*)(X*, float*, const X*, const float*, const float*, const DY*, RmsnormParams);
template <class X, class DY> void backward(const RmsnormParams& p, float scale, Back<X, DY> kernel) {
  const std::string what = "rmsnorm " + std::to_string(p.rows) + "x" + std::to_string(p.width) + " " + type_name<X>() + " " + type_name<DY>();
  const size_t n = size_t(p.rows) * p.width;
  const auto x = exact<X>(normal(n, 1, scale)), w = normal(p.width, 2), dy = exact<DY>(normal(n, 3));
  const auto dx0 = p.add ? exact<X>(normal(n, 4)) : poison(n), dw0 = normal(p.width, 5);
  std::vector<float> y1, s;
  forward<float>(p, x, w, y1, s);
  const auto plain = backward<float>(p, x, w, s, dy, {dx0, dw0});
  const auto truth = backward<double>(p, wide(x), wide(w), wide(s), wide(dy), {wide(dx0), wide(dw0)});
  const Buf<X> bx(typed<X>(x));
  const Buf<DY> bdy(typed<DY>(dy));
  const Buf<float> bw(w), brstd(s);
  const unsigned tiles = (p.rows + p.tile - 1) / p.tile;
  const auto got = under_all_schedules(what, [&] {
    Buf<X> dx(typed<X>(dx0));
    Buf<float> dw(dw0), partial(size_t(tiles) * p.width, NAN);
    simt::launch(kernel, dim3(tiles), dim3(RMSNORM_THREADS), 0, dx.get(), partial.get(), bx.get(), bw.get(), brstd.get(), bdy.get(), p);
    simt::launch(rmsnorm_backward_fold, dim3((p.width + 31) / 32), dim3(32 * RMSNORM_FOLD), 0, dw.get(), partial.get(), p);
    return std::pair(bits(dx.copy()), bits(dw.copy()));
  });
  require_near_as<X>(floats(got.first), truth.dx, plain.dx, what + " dx");
  require_near(floats(got.second), truth.dw, plain.dw, what + " dw");
}

void run(const RmsnormParams& p, float scale) {
  forward<float, float>(p, scale, rmsnorm_forward_f32);
  forward<float, bf16>(p, scale, rmsnorm_forward_f32_bf16);
  forward<bf16, bf16>(p, scale, rmsnorm_forward_bf16);
  backward<float, float>(p, scale, rmsnorm_backward_f32);
  backward<float, bf16>(p, scale, rmsnorm_backward_f32_bf16);
  backward<bf16, bf16>(p, scale, rmsnorm_backward_bf16);
}

// A row's bits are the same at an address that does not divide by 16.
void unaligned() {
  const RmsnormParams p = params(3, 64, 1e-5f, false);
  const auto x = to_bf16(normal(3 * 64 + 1, 1)), w = to_bf16(normal(64, 2));
  Buf<float> bw(from_bf16(w)), rstd(3);
  std::vector<uint32_t> got[2];
  for (unsigned off : {0u, 1u}) {
    Buf<bf16> bx(3 * 64 + off), y(3 * 64);
    std::copy_n(x.begin(), 3 * 64, bx.get() + off);
    simt::launch(rmsnorm_forward_bf16, dim3(1), dim3(RMSNORM_THREADS), 0, y.get(), rstd.get(), bx.get() + off, bw.get(), p);
    got[off] = bits(y.copy());
  }
  require(got[0] == got[1], "rmsnorm: other bits at an odd address");
}
}  // namespace

int main() {
  run(params(1, 1, 1, false), 1);  // of one column, dx is what ε leaves; a small one would cancel to noise
  run(params(3, 7, 1e-6f, true), 1);
  run(params(37, 64, 1e-6f, false), 1e-4f);  // heads: whole vectors, 8 lanes a row
  run(params(2, 33, 0, true), 100);
  run(params(70, 136, 1e-5f, true), 1);    // a ragged tile of rows, whole vectors
  run({40, 20, 1e-5f, true, 4, 3}, 1);     // more tiles than one, a block's threads outnumber the rows
  run({5, 2051, 1e-5f, false, 32, 2}, 1);  // more chunks of columns than threads
  run({3, 1100, 1e-5f, true, 32, 16}, 1);  // more than half as many chunks as threads, so one row group
  run({60, 12, 1e-5f, false, 4, 2}, 1);    // more tiles than threads that fold them
  unaligned();
  printf("rmsnorm: ok, %lu switches\n", simt::stats.switches);
}
