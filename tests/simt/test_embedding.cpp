// embedding on the emulation: the gather bit for bit, the sort by its order, the gradient against sums in double.
#include "check.h"
#include "../../kernels/embedding.cu"

namespace {
template <class X, class Y>
void gather(unsigned tokens, unsigned vocab, unsigned width, void (*kernel)(Y*, const X*, const uint32_t*, EmbeddingParams)) {
  const std::string what = std::string("embedding forward ") + type_name<X>() + " " + type_name<Y>() + " x" + std::to_string(width);
  const auto table = exact<X>(normal(size_t(vocab) * width, 1));
  std::vector<uint32_t> id;
  for (unsigned t = 0; t < tokens; ++t) id.push_back(t * 7919 % vocab);
  if (tokens > 3) id[1] = vocab, id[3] = ~0u;  // no ids
  const Buf<X> bt(typed<X>(table));
  const Buf<uint32_t> bi(id);
  const EmbeddingParams p{tokens, vocab, width, 0};
  const auto got = under_all_schedules(what, [&] {
    Buf<Y> y(typed<Y>(std::vector<float>(size_t(tokens) * width, 3)));
    simt::launch(kernel, dim3((tokens + EMBEDDING_WARPS - 1) / EMBEDDING_WARPS), dim3(EMBEDDING_THREADS), 0, y.get(), bt.get(), bi.get(), p);
    return bits(y.copy());
  });
  const auto y = floats(got), want = exact<Y>(table);
  for (size_t t = 0; t < tokens; ++t)
    for (size_t c = 0; c < width; ++c) {
      const float have = y[t * width + c];
      require(id[t] < vocab ? have == want[size_t(id[t]) * width + c] : std::isnan(have), what + ": token " + std::to_string(t));
    }
}

// As the launcher does it; returns the gradient of the table.
template <class DY>
std::vector<uint32_t> backward(const std::vector<uint32_t>& id, const std::vector<DY>& dy, const std::vector<float>& dtable, unsigned vocab, unsigned width,
                               void (*kernel)(float*, float*, const uint32_t*, const uint32_t*, const uint32_t*, const DY*, EmbeddingParams)) {
  const unsigned tokens = unsigned(id.size()), tiles = (tokens + EMBEDDING_SORT - 1) / EMBEDDING_SORT;
  EmbeddingParams p{tokens, vocab, width, 0};
  Buf<uint32_t> from(id), key[2] = {Buf<uint32_t>(tokens), Buf<uint32_t>(tokens)}, place[2] = {Buf<uint32_t>(tokens), Buf<uint32_t>(tokens)};
  Buf<uint32_t> count(size_t(EMBEDDING_DIGITS) * tiles), first(tokens);
  unsigned turn = 0;
  for (; p.shift == 0 || vocab >> p.shift > 0; p.shift += 8, turn ^= 1) {
    const uint32_t* k = p.shift == 0 ? from.get() : key[turn ^ 1].get();
    simt::launch(embedding_count, dim3(tiles), dim3(EMBEDDING_SORT), 0, count.get(), k, p);
    simt::launch(embedding_scan, dim3(1), dim3(EMBEDDING_SORT), 0, count.get(), p);
    simt::launch(embedding_scatter, dim3(tiles), dim3(EMBEDDING_SORT), 0, key[turn].get(), place[turn].get(), k, place[turn ^ 1].get(), count.get(), p);
  }
  const Buf<uint32_t>&k = key[turn ^ 1], &at = place[turn ^ 1];
  for (unsigned i = 0; i < tokens; ++i) {
    require(k[i] == id[at[i]], "embedding sort: a key lost its place");
    const uint32_t a = i ? std::min(k[i - 1], vocab) : 0, b = std::min(k[i], vocab);
    require(a < b || (a == b && (i == 0 || at[i - 1] < at[i])), "embedding sort: order at " + std::to_string(i));
  }
  Buf<float> sum(size_t(2) * ((tokens + EMBEDDING_PIECE - 1) / EMBEDDING_PIECE) * width, NAN), out(dtable);
  simt::launch(embedding_runs, dim3((tokens + EMBEDDING_THREADS - 1) / EMBEDDING_THREADS), dim3(EMBEDDING_THREADS), 0, first.get(), k.get(), p);
  const dim3 blocks((tokens + EMBEDDING_WARPS - 1) / EMBEDDING_WARPS, (width + EMBEDDING_COLUMNS - 1) / EMBEDDING_COLUMNS);
  simt::launch(kernel, blocks, dim3(EMBEDDING_THREADS), 0, out.get(), sum.get(), k.get(), at.get(), first.get(), dy.data(), p);
  simt::launch(embedding_long_runs, blocks, dim3(EMBEDDING_THREADS), 0, out.get(), sum.get(), k.get(), first.get(), p);
  return bits(out.copy());
}

template <class DY>
void gradient(const std::vector<uint32_t>& id, unsigned vocab, unsigned width,
              void (*kernel)(float*, float*, const uint32_t*, const uint32_t*, const uint32_t*, const DY*, EmbeddingParams)) {
  const std::string what = std::string("embedding backward ") + type_name<DY>() + " " + std::to_string(id.size()) + " of " + std::to_string(vocab);
  const auto dy = exact<DY>(normal(id.size() * width, 1)), start = normal(size_t(vocab) * width, 2);
  const auto got = under_all_schedules(what, [&] { return backward<DY>(id, typed<DY>(dy), start, vocab, width, kernel); });
  auto plain = start;
  auto truth = wide(start);
  for (size_t t = 0; t < id.size(); ++t)
    for (size_t c = 0; c < width && id[t] < vocab; ++c) {
      plain[id[t] * width + c] += dy[t * width + c];
      truth[id[t] * width + c] += dy[t * width + c];
    }
  require_near(floats(got), truth, plain, what);
}

std::vector<uint32_t> ids(unsigned n, unsigned vocab, unsigned common) {
  std::mt19937 g(n);
  std::vector<uint32_t> id;
  for (unsigned i = 0; i < n; ++i) id.push_back(g() % 3 ? g() % vocab : common);
  return id;
}
}  // namespace

int main() {
  for (unsigned width : {8u, 13u, 300u}) {
    gather<float, float>(9, 5, width, embedding_forward_f32);
    gather<float, bf16>(17, 600, width, embedding_forward_f32_bf16);
    gather<bf16, float>(3, 5, width, embedding_forward_bf16_f32);
    gather<bf16, bf16>(9, 70, width, embedding_forward_bf16);
  }
  gradient<float>({0}, 1, 3, embedding_pieces_f32);
  gradient<float>(ids(1030, 40, 7), 40, 5, embedding_pieces_f32);
  gradient<bf16>(ids(2500, 70000, 69999), 70000, 8, embedding_pieces_bf16);  // three passes, one id 800 times
  gradient<bf16>(ids(300, 256, 256), 256, 16, embedding_pieces_bf16);        // an id that is none, at the digit's edge
  gradient<float>(std::vector<uint32_t>(129, 2), 4, 9, embedding_pieces_f32);  // one run: pieces of 64, 64 and 1
  gradient<float>(std::vector<uint32_t>(64, 1), 2, 8, embedding_pieces_f32);
  gradient<bf16>(std::vector<uint32_t>(128, 0), 1, 264, embedding_pieces_bf16);
  gradient<float>({9, 1, ~0u, 9, 2}, 3, 8, embedding_pieces_f32);
  std::vector<uint32_t> two(132, 0);  // two whole pieces, and other ids behind them
  two[128] = two[129] = two[130] = two[131] = 1;
  gradient<float>(two, 2, 8, embedding_pieces_f32);
  // A row's bits do not depend on the ids around it.
  const auto dy = normal(200 * 8, 5);
  std::vector<uint32_t> id(200), other(200);
  for (unsigned i = 0; i < 200; ++i) id[i] = i % 2 ? 3 : 1, other[i] = i % 2 ? 3 : i % 7 == 0 ? 0 : 2;
  const std::vector<float> zero(4 * 8);
  const auto a = backward<float>(id, dy, zero, 4, 8, embedding_pieces_f32), b = backward<float>(other, dy, zero, 4, 8, embedding_pieces_f32);
  require(std::equal(a.begin() + 24, a.end(), b.begin() + 24), "embedding: a row depends on its neighbours");
  printf("embedding: ok, %lu switches\n", simt::stats.switches);
}
