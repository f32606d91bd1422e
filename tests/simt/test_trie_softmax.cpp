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

// The loss of rows at one level, with a teacher and rows without a label among them.
struct Loss {
  TrieSoftmaxLossParams p;
  std::vector<uint32_t> row_ptr{0}, node, label, start{0}, soft_code;
  std::vector<uint16_t> code;
  std::vector<float> logits, soft_weight;

  Loss(TrieSoftmaxLossParams p_, unsigned widest, bool taught, unsigned seed) : p(p_) {
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
    logits = normal(size_t(p.rows) * p.vocab, seed + 1, 3);
    for (unsigned r = 0; r < p.rows; ++r) {
      const unsigned n = g() % p.nodes, first = row_ptr[n], many = row_ptr[n + 1] - first;
      node.push_back(n), label.push_back(code[first + g() % many]);
      // A teacher of up to 40 entries: more than the lanes of a warp.
      std::vector<float> w;
      for (unsigned i = 0; taught && i < many && w.size() < 40; i += 1 + g() % 2) {
        soft_code.push_back(code[first + i]), w.push_back(float(1 + g() % 9));
      }
      float sum = 0;
      for (float v : w) sum += v;
      for (float v : w) soft_weight.push_back(v / sum * 0.6f);
      start.push_back(uint32_t(soft_code.size()));
    }
    for (unsigned r = 2; r < p.rows; r += 7) node[r] = 0xffffffffu;
    for (unsigned r = 5; r < p.rows; r += 7) label[r] = p.codes;
    p.entries = uint32_t(soft_code.size());
  }

  bool labelled(unsigned r) const { return node[r] < p.nodes && label[r] < p.codes; }

  std::pair<std::vector<uint32_t>, std::vector<uint32_t>> launch() const {
    Buf<float> x(logits), out(p.rows, NAN);
    const Buf<uint32_t> at(node), own(label), from(start), soft(soft_code), ptr(row_ptr);
    const Buf<float> weight(soft_weight);
    const Buf<uint16_t> by(code);
    simt::launch(trie_softmax_loss_f32, dim3((p.rows + TRIE_SOFTMAX_ROWS - 1) / TRIE_SOFTMAX_ROWS),
                 dim3(TRIE_SOFTMAX_ROWS * 32), 0, x.get(), out.get(), at.get(), own.get(), from.get(),
                 soft.get(), weight.get(), ptr.get(), by.get(), p);
    return {bits(out.copy()), bits(x.copy())};
  }

  // The definition, in R: losses, then gradients.
  template <class R> std::pair<std::vector<double>, std::vector<double>> reference() const {
    std::vector<double> loss(p.rows, 0.0), dx(logits.size(), 0.0);
    for (unsigned r = 0; r < p.rows; ++r) {
      if (!labelled(r)) continue;
      const float* x = &logits[size_t(r) * p.vocab + p.token_base];
      const uint32_t first = row_ptr[node[r]], end = row_ptr[node[r] + 1];
      R m = -INFINITY, z = 0, moved = 0, sum = 0;
      for (uint32_t e = first; e < end; ++e) m = std::max(m, R(x[code[e]]));
      for (uint32_t e = first; e < end; ++e) z += std::exp(R(x[code[e]]) - m);
      const R lse = m + std::log(z);
      for (uint32_t i = start[r]; i < start[r + 1]; ++i) moved += R(soft_weight[i]);
      for (uint32_t e = first; e < end; ++e) {
        R target = R(p.smoothing) / R(end - first);
        if (code[e] == label[r]) target += 1 - R(p.smoothing) - moved;
        for (uint32_t i = start[r]; i < start[r + 1]; ++i) {
          if (soft_code[i] == code[e]) target += R(soft_weight[i]);
        }
        sum += target * (lse - R(x[code[e]]));
        dx[size_t(r) * p.vocab + p.token_base + code[e]] = double(R(p.scale) * (std::exp(R(x[code[e]]) - lse) - target));
      }
      loss[r] = double(sum);
    }
    return {loss, dx};
  }

  void check(const std::string& what) const {
    const auto got = under_all_schedules(what, [&] { return launch(); });
    const auto truth = reference<double>(), plain = reference<float>();
    const auto narrow = [](const std::vector<double>& v) { return std::vector<float>(v.begin(), v.end()); };
    require_near(floats(got.first), truth.first, narrow(plain.first), what + " loss");
    const auto dx = floats(got.second);
    require_near(dx, truth.second, narrow(plain.second), what + " gradient");
    for (size_t i = 0; i < dx.size(); ++i) {
      require(truth.second[i] != 0 || dx[i] == 0, what + ": what is not allowed, or has no label, is zero");
    }
  }
};

void losses() {
  //    R   V    base K    N   entries s scale
  Loss({1, 1, 0, 1, 1, 0, 0.0f, 1.0f}, 1, false, 3).check("loss: one code");
  Loss({9, 40, 5, 33, 4, 0, 0.1f, 0.5f}, 33, false, 4).check("loss: ragged windows");
  Loss({37, 256, 0, 256, 50, 0, 0.0f, 1.0f / 64}, 256, false, 5).check("loss: a level");
  Loss({37, 300, 20, 256, 50, 0, 0.2f, 1.0f / 64}, 256, true, 6).check("loss: a teacher");
  Loss nan({6, 40, 0, 40, 1, 0, 0.1f, 1.0f}, 40, false, 8);
  for (float bad : {NAN, INFINITY}) {
    Loss c = nan;
    const unsigned allowed = c.code[c.row_ptr[1] - 1];
    for (unsigned v = 0; v < 40; ++v) {  // what is not allowed is not read
      const bool child = std::find(c.code.begin(), c.code.end(), v) != c.code.end();
      if (!child) c.logits[v] = NAN;
    }
    c.logits[40 + allowed] = bad;
    const auto got = c.launch();
    require(std::isfinite(floats(got.first)[0]), "loss: NaN where nothing is read");
    require(std::isnan(floats(got.first)[1]) && std::isnan(floats(got.second)[40 + allowed]), "loss: NaN told");
  }
}

// tokens and rows of a selection, then the paths that they lead to.
void steps() {
  const uint32_t b = 3, w = 5;
  std::vector<uint32_t> lengths{4, 1, 9}, path, rows;
  for (uint32_t step = 0; step < 4; ++step) {
    const uint32_t in = step == 0 ? 1 : w, n = b * w;
    std::vector<uint32_t> parent(n), code(n);
    for (uint32_t i = 0; i < n; ++i) parent[i] = i * 7 % in, code[i] = i % 11;
    const auto got = under_all_schedules("steps", [&] {
      const Buf<uint32_t> from(parent), by(code), before(path), length(lengths);
      Buf<uint32_t> token(n, 7), row(n, 7), after(n * (step + 1), 7), position(n, 7);
      simt::launch(trie_softmax_follow_u32, dim3(1), dim3(TRIE_SOFTMAX_THREADS), 0, token.get(), row.get(),
                   from.get(), by.get(), TrieSoftmaxFollowParams{n, w, in, 100});
      simt::launch(trie_softmax_path_u32, dim3(1), dim3(TRIE_SOFTMAX_THREADS), 0, after.get(), position.get(),
                   before.get(), row.get(), length.get(), TrieSoftmaxPathParams{n, w, step, b * in});
      return std::tuple(token.copy(), row.copy(), after.copy(), position.copy());
    });
    const auto& [token, row, after, position] = got;
    for (uint32_t i = 0; i < n; ++i) {
      require(token[i] == 100 + code[i] && row[i] == i / w * in + parent[i], "follow");
      require(position[i] == lengths[i / w] + step && after[i * (step + 1) + step] == i, "path: own");
      for (uint32_t t = 0; t < step; ++t) {
        require(after[i * (step + 1) + t] == path[row[i] * step + t], "path: ancestors");
      }
    }
    path = after;
  }
}
}  // namespace

int main() {
  losses();
  steps();
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
