// attention_decode on the emulation against rows that gather their own keys, in double.
#include "check.h"
#include "../../kernels/attention_decode.cu"

namespace {
struct Case {
  unsigned beams, heads, kv_heads, d;
  std::vector<uint32_t> prompt;  // offsets of the requests
  unsigned steps, room;          // so far, and in a row of path
  unsigned parts = 1;
  float sharpness = 1.0f;
  bool few = false;

  size_t rows() const { return (prompt.size() - 1) * beams; }
  AttentionDecodeParams params() const {
    return {unsigned(prompt.size() - 1), beams, heads, kv_heads, d, prompt.back(), room, parts, 1.0f / std::sqrt(float(d))};
  }
  std::string name() const {
    return "attention_decode " + std::to_string(beams) + " beams " + std::to_string(heads) + "/" + std::to_string(kv_heads) + "x" +
           std::to_string(d) + " keys " + std::to_string(prompt.back()) + " steps " + std::to_string(steps) + " parts " + std::to_string(parts) +
           (few ? " few" : "");
  }
};

template <class R>
std::vector<R> reference(const Case& c, const std::vector<R>& q, const std::vector<std::vector<R>>& cache, const std::vector<uint32_t>& path) {
  std::vector<R> o(q.size());
  for (size_t r = 0; r < c.rows(); ++r) {
    for (unsigned h = 0; h < c.heads; ++h) {
      const unsigned g = h / (c.heads / c.kv_heads);
      const auto place = [&](size_t token) { return (token * c.kv_heads + g) * c.d; };
      std::vector<std::pair<const R*, const R*>> keys;
      for (size_t j = c.prompt[r / c.beams]; j < c.prompt[r / c.beams + 1]; ++j) keys.push_back({&cache[0][place(j)], &cache[1][place(j)]});
      for (size_t t = 0; t < c.steps; ++t) {
        const size_t at = place(t * c.rows() + path[r * c.room + t]);
        keys.push_back({&cache[2][at], &cache[3][at]});
      }
      const R* x = &q[(r * c.heads + h) * c.d];
      std::vector<R> w;
      R m = -INFINITY, z = 0;
      for (auto [k, v] : keys) {
        R sum = 0;
        for (unsigned i = 0; i < c.d; ++i) sum += x[i] * k[i];
        w.push_back(R(c.params().scale) * sum), m = std::max(m, w.back());
      }
      for (R& e : w) e = std::exp(e - m), z += e;
      for (size_t j = 0; j < keys.size(); ++j) {
        for (unsigned i = 0; i < c.d; ++i) o[(r * c.heads + h) * c.d + i] += w[j] / z * keys[j].second[i];
      }
    }
  }
  return o;
}

auto kernel(unsigned d, bool few) {
  if (few) return d == 64 ? attention_decode_few_bf16_d64 : attention_decode_few_bf16_d128;
  return d == 16 ? attention_decode_bf16_d16 : d == 32 ? attention_decode_bf16_d32
       : d == 64 ? attention_decode_bf16_d64 : attention_decode_bf16_d128;
}

void run(const Case& c, bool broken_path = false) {
  const std::string what = c.name();
  const size_t rows = c.rows(), width = size_t(c.heads) * c.d, kv_width = size_t(c.kv_heads) * c.d;
  const auto q = round_bf16(normal(rows * width, 1, c.sharpness));
  std::vector<std::vector<float>> cache;
  for (unsigned seed = 2; seed < 6; ++seed) {
    // A slab more than in use, as a cache for more steps has.
    cache.push_back(round_bf16(normal((seed < 4 ? c.prompt.back() : (c.steps + 1) * rows) * kv_width, seed)));
  }
  std::vector<uint32_t> path(rows * c.room, 0xffffffff);  // what lies behind the steps so far is never read
  std::mt19937 random(7);
  for (size_t r = 0; r < rows; ++r) for (size_t t = 0; t < c.steps; ++t) path[r * c.room + t] = random() % rows;
  const auto plain = reference<float>(c, q, cache, path);
  std::vector<std::vector<double>> exact;
  for (auto& x : cache) exact.push_back(wide(x));
  auto truth = reference<double>(c, wide(q), exact, path);
  if (broken_path) path[(rows - 1) * c.room + c.steps - 1] = unsigned(rows);

  std::vector<uint32_t> bounds = c.prompt;
  bounds.push_back(c.steps);
  const Buf<uint32_t> bpath(path), bbounds(bounds);
  const Buf<bf16> bq(to_bf16(q)), pk(to_bf16(cache[0])), pv(to_bf16(cache[1])), sk(to_bf16(cache[2])), sv(to_bf16(cache[3]));
  const auto p = c.params();
  const unsigned high = c.few ? ATTENTION_DECODE_FEW_ROWS : ATTENTION_DECODE_ROWS;
  const unsigned blocks = p.requests * c.kv_heads * ((c.beams * c.heads / c.kv_heads + high - 1) / high);
  auto got = under_all_schedules(what, [&] {
    Buf<bf16> o(q.size(), __float2bfloat16_rn(NAN));
    const size_t n = c.parts > 1 ? c.parts * rows * c.heads : 0;
    Buf<float> partial(n * c.d, NAN), measure(n * 2, NAN);
    Buf<uint32_t> ticket(c.parts > 1 ? blocks : 0, 0);
    simt::launch(kernel(c.d, c.few), dim3(blocks, c.parts), dim3(ATTENTION_DECODE_WARPS * 32),
                 (c.few ? ATTENTION_DECODE_FEW_BYTES : ATTENTION_DECODE_BYTES) * c.d, o.get(), partial.get(), measure.get(), ticket.get(),
                 bq.get(), pk.get(), pv.get(), sk.get(), sv.get(), bpath.get(), bbounds.get(), p);
    for (size_t i = 0; i < ticket.n; ++i) require(ticket[i] == 0, what + ": the next launch finds its tickets at zero");
    std::vector<uint32_t> b(o.n);
    for (size_t i = 0; i < o.n; ++i) b[i] = o[i].x;
    return b;
  });
  std::vector<float> y(got.size());
  for (size_t i = 0; i < y.size(); ++i) y[i] = __bfloat162float({uint16_t(got[i])});
  if (broken_path) {
    for (size_t i = y.size() - width; i < y.size(); ++i) {
      require(std::isnan(y[i]), what + ": a path that leaves its slab gives NaN");
      y[i] = 0, truth[i] = 0;
    }
    y.resize(y.size() - width), truth.resize(y.size());
    require_near_bf16(y, truth, {plain.begin(), plain.begin() + long(y.size())}, 1.0 / 256, what);
    return;
  }
  // Weights are rounded to bf16 before they meet the values: half a step of 2⁻⁸ each.
  require_near_bf16(y, truth, plain, 1.0 / 256, what);
}
}  // namespace

int main() {
  run({1, 1, 1, 64, {0, 1}, 1, 1});
  run({3, 6, 2, 16, {0, 1, 65, 65, 82}, 3, 4});     // a request without a prompt; room for a step more
  run({50, 2, 1, 32, {0, 33, 130}, 2, 2});          // rows 100: a ragged tile; suffix of 100 keys
  run({70, 4, 2, 64, {0, 70}, 3, 3});               // two tiles of rows that part a beam's heads evenly
  run({50, 3, 1, 16, {0, 200}, 4, 4, 3});           // a beam on both sides of a tile's edge; parts
  run({9, 2, 2, 128, {0, 100, 164}, 2, 3, 2});
  run({140, 2, 2, 64, {0, 66}, 2, 2, 1, 20});
  run({5, 2, 1, 16, {0, 40, 40}, 0, 1, 4});         // no suffix; parts and a request without keys
  run({4, 2, 1, 16, {0, 9}, 2, 2}, true);
  run({4, 2, 1, 16, {0, 9}, 2, 2, 2}, true);
  run({13, 3, 1, 64, {0, 1, 131, 131}, 3, 3, 1, 1, true});  // 39 rows: a ragged tile; one key, none
  run({50, 6, 2, 128, {0, 200}, 2, 3, 2, 1, true});
  run({7, 2, 2, 64, {0, 70, 500}, 0, 1, 4, 20, true});
  run({4, 2, 1, 64, {0, 9}, 2, 2, 1, 1, true}, true);
  run({20, 2, 1, 64, {0, 300}, 2, 2, 3, 1, true}, true);
  require(simt::stats.ldmatrix_conflicts == 0, "attention_decode: ldmatrix without bank conflicts");
  printf("attention_decode: ok, %lu switches, %lu ldmatrix\n", simt::stats.switches, simt::stats.ldmatrix);
}
