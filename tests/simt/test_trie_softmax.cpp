// trie_softmax on the emulation against scoring and sorting every continuation in double.
#include "check.h"
#include "../../kernels/trie_softmax.cu"

namespace {
struct Best { uint32_t parent, code, node; double score; };
struct Out {
  std::vector<uint32_t> parent, code, node, score, count, bad;
  bool operator==(const Out&) const = default;
};

struct Case {
  TrieSoftmaxParams p;
  std::vector<uint32_t> row_ptr, node;
  std::vector<uint16_t> code;
  std::vector<float> logits, score;

  Case(TrieSoftmaxParams p_, unsigned widest, float scale, unsigned seed) : p(p_), row_ptr{0} {
    std::mt19937 g(seed);
    for (unsigned n = 0; n < p.nodes; ++n) {
      std::vector<uint16_t> all(p.codes);
      for (unsigned c = 0; c < p.codes; ++c) all[c] = uint16_t(c);
      std::shuffle(all.begin(), all.end(), g);
      all.resize(1 + g() % std::min(widest, p.codes));
      std::sort(all.begin(), all.end());
      code.insert(code.end(), all.begin(), all.end());
      row_ptr.push_back(uint32_t(code.size()));
    }
    const unsigned rows = p.requests * p.rows;
    logits = normal(size_t(rows) * p.vocab, seed + 1, scale);
    score = normal(rows, seed + 2, 2);
    for (unsigned r = 0; r < rows; ++r) node.push_back(g() % p.nodes);
    for (unsigned r = 3; r < rows; r += 5) score[r] = -INFINITY, node[r] = 0xffffffffu;  // dead
  }

  Out launch() const {
    const unsigned rows = p.requests * p.rows, n = p.requests * p.width;
    const Buf<float> x(logits), s(score);
    const Buf<uint32_t> at(node), ptr(row_ptr);
    const Buf<uint16_t> by(code);
    Buf<float> peak(rows, NAN), log_z(rows, NAN), best(n, NAN);
    Buf<uint32_t> bad(1, 0xffffffffu), parent(n, 77), chosen(n, 77), to(n, 77), count(p.requests, 77);
    simt::launch(trie_softmax_normalise_f32, dim3(rows), dim3(TRIE_SOFTMAX_WARPS * 32), 0, peak.get(),
                 log_z.get(), bad.get(), x.get(), s.get(), at.get(), ptr.get(), by.get(), p);
    simt::launch(trie_softmax_select_f32, dim3(p.requests), dim3(TRIE_SOFTMAX_SELECT * 32), 0,
                 parent.get(), chosen.get(), to.get(), best.get(), count.get(), x.get(), s.get(), at.get(),
                 peak.get(), log_z.get(), ptr.get(), by.get(), p);
    return {parent.copy(), chosen.copy(), to.copy(), bits(best.copy()), count.copy(), bad.copy()};
  }

  template <class R> double candidate(unsigned row, uint32_t edge) const {
    const float* x = &logits[size_t(row) * p.vocab];
    std::vector<unsigned> tokens;
    if (p.normalise == TRIE_SOFTMAX_ALLOWED) {
      for (uint32_t e = row_ptr[node[row]]; e < row_ptr[node[row] + 1]; ++e) tokens.push_back(p.token_base + code[e]);
    } else {
      const bool all = p.normalise == TRIE_SOFTMAX_VOCABULARY;
      for (unsigned i = 0; i < (all ? p.vocab : p.codes); ++i) tokens.push_back((all ? 0 : p.token_base) + i);
    }
    R m = -INFINITY, z = 0;
    for (unsigned t : tokens) m = std::max(m, R(x[t]));
    for (unsigned t : tokens) z += std::exp(R(x[t]) - m);
    return double(R(score[row]) + ((R(x[p.token_base + code[edge]]) - m) - std::log(z)));
  }

  void check(const std::string& what) const {
    const Out out = under_all_schedules(what, [&] { return launch(); });
    require(out.bad[0] == 0xffffffffu, what + ": no row is bad");
    const auto got = floats(out.score);
    for (unsigned b = 0; b < p.requests; ++b) {
      // The kernel's own scores decide near ties; truth decides whether they are right.
      std::vector<Best> all;
      for (unsigned r = 0; r < p.rows; ++r) {
        const unsigned row = b * p.rows + r;
        if (score[row] == -INFINITY) continue;
        for (uint32_t e = row_ptr[node[row]]; e < row_ptr[node[row] + 1]; ++e) {
          if (logits[size_t(row) * p.vocab + p.token_base + code[e]] == -INFINITY) continue;
          all.push_back({r, code[e], e, candidate<double>(row, e)});
        }
      }
      const size_t want = std::min<size_t>(all.size(), p.width), base = size_t(b) * p.width;
      require(out.count[b] == want, what + ": count");
      std::vector<double> truth;
      std::vector<float> plain;
      for (size_t i = 0; i < p.width; ++i) {
        if (i >= want) {
          require(got[base + i] == -INFINITY && out.node[base + i] == 0, what + ": a dead place");
          continue;
        }
        const auto hit = std::find_if(all.begin(), all.end(), [&](const Best& a) {
          return a.parent == out.parent[base + i] && a.code == out.code[base + i] && a.node == out.node[base + i];
        });
        require(hit != all.end(), what + ": what the trie does not allow, or twice");
        truth.push_back(hit->score);
        plain.push_back(float(candidate<float>(b * p.rows + hit->parent, hit->node)));
        all.erase(hit);
        if (i > 0) {
          const auto key = [&](size_t j) { return std::tuple(-got[base + j], out.parent[base + j], out.code[base + j]); };
          require(key(i - 1) < key(i), what + ": order");
        }
      }
      require_near({&got[base], &got[base] + want}, truth, plain, what + " scores");
      // Nothing that was left behind is better than the last one taken, up to rounding.
      for (const Best& a : all) require(a.score <= truth.back() + 1e-4, what + ": a better one was left");
    }
  }
};

void run(TrieSoftmaxParams p, unsigned widest, float scale) {
  for (uint32_t normalise : {TRIE_SOFTMAX_ALLOWED, TRIE_SOFTMAX_LEVEL, TRIE_SOFTMAX_VOCABULARY}) {
    p.normalise = normalise;
    Case(p, widest, scale, 11 + normalise)
        .check("trie_softmax B " + std::to_string(p.requests) + " R " + std::to_string(p.rows) + " W " +
               std::to_string(p.width) + " mode " + std::to_string(normalise));
  }
}
}  // namespace

int main() {
  //   B  R   W    V    base K    N  normalise
  run({1, 1, 1, 1, 0, 1, 1, 0}, 1, 1);
  run({3, 1, 20, 60, 3, 16, 1, 0}, 16, 1);       // fewer legal than W
  run({2, 7, 5, 60, 19, 16, 9, 0}, 16, 1);
  run({2, 40, 33, 400, 35, 300, 50, 0}, 300, 20);
  run({1, 9, 1024, 700, 0, 700, 9, 0}, 700, 3);  // the widest, and a sort of all of shared memory

  // Ties: equal logits and scores, so parent and code alone decide.
  Case tie({1, 8, 310, 302, 2, 300, 1, 0}, 300, 1, 5);
  std::fill(tie.logits.begin(), tie.logits.end(), 0.25f);
  std::fill(tie.score.begin(), tie.score.end(), -1.0f);
  std::fill(tie.node.begin(), tie.node.end(), 0u);
  const Out out = under_all_schedules("ties", [&] { return tie.launch(); });
  const uint32_t n = tie.row_ptr[1];
  for (uint32_t i = 0; i < std::min(310u, 8 * n); ++i) {
    require(out.parent[i] == i / n && out.code[i] == tie.code[i % n], "ties: order");
  }
  // A beam of score −0 ties with one of +0.
  Case zero({1, 2, 2, 1, 0, 1, 1, 0}, 1, 1, 6);
  zero.score = {-0.0f, 0.0f}, zero.node = {0, 0}, zero.logits = {0.0f, 0.0f};
  const Out tied = zero.launch();
  require(tied.parent == std::vector<uint32_t>({0, 1}) && tied.score == std::vector<uint32_t>({0, 0}), "−0 is +0");

  // −∞ forbids; all forbidden leaves nothing; NaN and +∞ are reported by the lowest row.
  Case odd({2, 2, 4, 6, 1, 4, 1, 0}, 4, 1, 7);
  odd.row_ptr = {0, 3}, odd.code = {0, 1, 2}, odd.node = {0, 0, 0, 0}, odd.score = {0, 0, 0, 0};
  std::fill(odd.logits.begin(), odd.logits.end(), -INFINITY);
  odd.logits[2] = odd.logits[3] = 1.0f;
  Out o = odd.launch();
  require(o.count == std::vector<uint32_t>({2, 0}) && o.bad[0] == 0xffffffffu, "−∞ forbids");
  for (float bad : {NAN, INFINITY}) {
    odd.logits[6 * 3 + 2] = odd.logits[6 * 2 + 1] = bad;
    require(odd.launch().bad[0] == 2, "NaN and +∞ are named by row");
  }
  printf("trie_softmax: ok, %lu switches\n", simt::stats.switches);
}
