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

void run(unsigned rows, unsigned width, float eps, float scale, bool add) {
  const RmsnormParams p{rows, width, eps, add};
  const std::string what = "rmsnorm " + std::to_string(rows) + "x" + std::to_string(width);
  const size_t n = size_t(rows) * width;
  const auto x = normal(n, 1, scale), w = normal(width, 2), dy = normal(n, 3);
  const auto dx0 = add ? normal(n, 4) : poison(n), dw0 = normal(width, 5);
  const Buf<float> bx(x), bw(w), bdy(dy);

  std::vector<float> y1, s1;
  std::vector<double> y2, s2;
  forward<float>(p, x, w, y1, s1);
  forward<double>(p, wide(x), wide(w), y2, s2);
  const dim3 blocks((rows + RMSNORM_WARPS - 1) / RMSNORM_WARPS), threads(RMSNORM_WARPS * 32);
  auto got = under_all_schedules(what, [&] {
    Buf<float> y(n, NAN), rstd(rows, NAN);
    simt::launch(rmsnorm_forward_f32, blocks, threads, 0, y.get(), rstd.get(), bx.get(), bw.get(), p);
    return std::pair(bits(y.copy()), bits(rstd.copy()));
  });
  require_near(floats(got.first), y2, y1, what + " y");
  require_near(floats(got.second), s2, s1, what + " rstd");

  const std::vector<float> s(s2.begin(), s2.end());
  const auto plain = backward<float>(p, x, w, s, dy, {dx0, dw0});
  const auto truth = backward<double>(p, wide(x), wide(w), wide(s), wide(dy), {wide(dx0), wide(dw0)});
  const Buf<float> brstd(s);
  got = under_all_schedules(what, [&] {
    Buf<float> dx(dx0), dw(dw0);
    const unsigned tiles = (rows + RMSNORM_TILE - 1) / RMSNORM_TILE;
    Buf<float> partial(size_t(tiles) * width, NAN);
    simt::launch(rmsnorm_backward_f32, blocks, threads, 0, dx.get(), bx.get(), bw.get(), brstd.get(),
                 bdy.get(), p);
    simt::launch(rmsnorm_backward_weight_f32,
                 dim3(tiles, (width + RMSNORM_COLUMNS - 1) / RMSNORM_COLUMNS), dim3(RMSNORM_COLUMNS), 0,
                 partial.get(), bx.get(), brstd.get(), bdy.get(), p);
    simt::launch(rmsnorm_backward_fold_f32, dim3((width + 31) / 32), dim3(32 * RMSNORM_FOLD), 0, dw.get(),
                 partial.get(), p);
    return std::pair(bits(dx.copy()), bits(dw.copy()));
  });
  require_near(floats(got.first), truth.dx, plain.dx, what + " dx");
  require_near(floats(got.second), truth.dw, plain.dw, what + " dw");
}
}  // namespace

int main() {
  run(1, 1, 1, 1, false);  // of one column, dx is what ε leaves; a small one would cancel to noise
  run(3, 7, 1e-6f, 1, true);
  run(5, 64, 1e-6f, 1e-4f, false);
  run(2, 33, 0, 100, true);
  run(131, 129, 1e-5f, 1, false);  // ragged tiles of rows and of columns
  run(600, 40, 1e-5f, 1, true);    // more tiles than threads that fold them
  printf("rmsnorm: ok, %lu switches\n", simt::stats.switches);
}
