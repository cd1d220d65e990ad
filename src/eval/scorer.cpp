#include "eval/scorer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>
#include <span>

#include "calque/core/error.h"
#include "calque/core/parallel.h"
#include "calque/eval/cost.h"
#include "calque/forward/not_finite.h"

namespace calque::eval {
namespace {

// One head serves both, because they are one checkpoint in one precision.
bool one_head(const Lane& a, const Lane& b) {
  return a.model->weights == b.model->weights && a.options.dtype == b.options.dtype;
}

std::span<const float> values(MatrixView<const float> matrix, Index row) {
  return {matrix.row(row), static_cast<std::size_t>(matrix.cols())};
}

}  // namespace

// The working memory of one thread.
struct Scorer::Logits {
  Matrix<float> reference_TV = Matrix<float>::uninitialized(kScoredRows, kStripTokens);
  Matrix<float> candidate_TV = Matrix<float>::uninitialized(kScoredRows, kStripTokens);
  Matrix<double> exponentials_TV = Matrix<double>::uninitialized(kScoredRows, kStripTokens);
  std::vector<double> candidates_V = std::vector<double>(kStripTokens);
  std::vector<double> shrunk_T = std::vector<double>(kScoredRows);
};

Scorer::Scorer(std::vector<Lane>& lanes, const std::vector<ScoredSpan>& spans, int threads,
               const std::function<std::string(Index row)>& name_row)
    : lanes_(lanes),
      threads_(threads),
      name_row_(name_row),
      heads_(lanes.size()),
      sums_(lanes.size()) {
  std::size_t slots = 0;
  for (const ScoredSpan& span : spans)
    for (Index first = 0; first < span.count(); first += kScoredRows) {
      tiles_.push_back({&span, first, std::min(kScoredRows, span.count() - first), slots});
      slots += static_cast<std::size_t>(tiles_.back().count);
    }
  for (std::size_t i = 0; i < lanes.size(); ++i) {
    std::size_t owner = 0;
    while (!one_head(lanes[owner], lanes[i])) ++owner;
    owner_.push_back(owner);
    sums_[i].resize(slots);
    lanes[i].predictions.resize(slots);
  }
}

void Scorer::run(Index held_elements, const std::function<void(Index, Index)>& progress) {
  const auto heads = static_cast<Index>(std::set(owner_.begin(), owner_.end()).size());
  const Index held =
      held_tokens(vocab_size(), lanes_.front().model->config->hidden_size, heads, held_elements);
  for (Index first = 0; first < vocab_size(); first += held) {
    const Index tokens = std::min(held, vocab_size() - first);
    load(first, tokens);
    parallel_for(static_cast<Index>(tiles_.size()), threads_,
                 [&](Index tile) { score(tiles_[static_cast<std::size_t>(tile)], first, tokens); });
    progress(first + tokens, vocab_size());
  }
  heads_.clear();
  require_distributions();
  parallel_for(static_cast<Index>(tiles_.size()), threads_,
               [&](Index tile) { finish(tiles_[static_cast<std::size_t>(tile)]); });
  require_numbers();
}

// body(lane, slot, row, position) for everything that is scored.
template <typename Body>
void Scorer::each_position(const Body& body) const {
  for (std::size_t lane = 0; lane < lanes_.size(); ++lane)
    for (const Tile& tile : tiles_)
      for (Index t = 0; t < tile.count; ++t)
        body(lane, tile.slot + static_cast<std::size_t>(t), tile.span->row, tile.position() + t);
}

void Scorer::require_distributions() const {
  each_position([&](std::size_t lane, std::size_t slot, Index row, Index position) {
    if (is_distribution(sums_[lane][slot])) return;
    forward::throw_not_finite(
        fmt::format("{}: the logits at position {} of {} hold NaN or infinity",
                    lanes_[lane].model->label, position, name_row_(row)),
        lanes_[lane].options.dtype);
  });
}

void Scorer::require_numbers() const {
  each_position([&](std::size_t lane, std::size_t slot, Index row, Index position) {
    const Prediction& prediction = lanes_[lane].predictions[slot];
    if (std::isfinite(prediction.nll) && std::isfinite(prediction.kl)) return;
    forward::throw_not_finite(
        fmt::format("{}: position {} of {} gives probability 0 to {}, so that its {} is infinite",
                    lanes_[lane].model->label, position, name_row_(row),
                    std::isfinite(prediction.nll) ? "a token that the reference can say"
                                                  : "the token that came next",
                    std::isfinite(prediction.nll) ? "divergence" : "perplexity"),
        lanes_[lane].options.dtype);
  });
}

// A lane's rows are read in one piece, since some sources decode a whole head for any of them.
void Scorer::load(Index first_token, Index tokens) {
  std::vector<Index> wanted(static_cast<std::size_t>(tokens));
  std::iota(wanted.begin(), wanted.end(), first_token);
  parallel_for(static_cast<Index>(lanes_.size()), threads_, [&](Index i) {
    const auto index = static_cast<std::size_t>(i);
    if (owner_[index] != index) return;
    const Lane& lane = lanes_[index];
    with_context(lane.model->label, [&] {
      const Matrix<float> norm_1H = lane.model->weights->load(lane.family.final_norm.name);
      const Matrix<float> head_VH = lane.model->weights->load_rows(lane.family.head().name, wanted);
      model::require_finite(lane.family.final_norm.name, norm_1H);
      model::require_finite(lane.family.head().name, head_VH, first_token);
      heads_[index].clear();
      for (Index strip = 0; strip < tokens; strip += kStripTokens)
        heads_[index].push_back(lane.runner->make_head(
            norm_1H, head_VH.view().rows(strip, std::min(kStripTokens, tokens - strip))));
    });
  });
}

void Scorer::score(const Tile& tile, Index first_token, Index tokens) {
  Logits logits;
  for (Index strip = 0; strip * kStripTokens < tokens; ++strip)
    score_strip(tile, strip, first_token + strip * kStripTokens, logits);
}

void Scorer::score_strip(const Tile& tile, Index strip, Index first_token, Logits& logits) {
  const Index tokens = std::min(kStripTokens, vocab_size() - first_token);
  for (std::size_t i = 0; i < lanes_.size(); ++i) {
    Matrix<float>& whole_TV = i == 0 ? logits.reference_TV : logits.candidate_TV;
    const MatrixView<float> made_TV(whole_TV.data(), tile.count, tokens);
    heads_[owner_[i]][static_cast<std::size_t>(strip)]->logits(*lanes_[i].hidden, tile.span->row,
                                                               tile.position(), made_TV);
    add(i, tile, first_token, made_TV, logits);
  }
}

void Scorer::add(std::size_t lane, const Tile& tile, Index first_token,
                 MatrixView<const float> logits_TV, Logits& logits) {
  const auto tokens = static_cast<std::size_t>(logits_TV.cols());
  const MatrixView<const float> reference_TV(logits.reference_TV.data(), logits_TV.rows(),
                                             logits_TV.cols());
  for (Index t = 0; t < tile.count; ++t) {
    SoftmaxSum& row = sums_[lane][tile.slot + static_cast<std::size_t>(t)];
    double& shrunk = logits.shrunk_T[static_cast<std::size_t>(t)];
    const std::span<double> of_reference(logits.exponentials_TV.row(t), tokens);
    if (lane == 0) {
      shrunk = add_strip(values(logits_TV, t), first_token, row, of_reference);
    } else {
      add_strip(values(logits_TV, t), first_token, row,
                std::span(logits.candidates_V).first(tokens));
      row.crossed = row.crossed * shrunk +
                    crossed_strip(of_reference, values(reference_TV, t), values(logits_TV, t));
    }
    const Index place = tile.following(t) - first_token;
    if (place >= 0 && place < logits_TV.cols()) row.correct = logits_TV(t, place);
  }
}

void Scorer::finish(const Tile& tile) {
  for (std::size_t slot = tile.slot; slot < tile.slot + static_cast<std::size_t>(tile.count);
       ++slot)
    for (std::size_t i = 0; i < lanes_.size(); ++i)
      lanes_[i].predictions[slot] = compare(sums_[0][slot], sums_[i][slot]);
}

}  // namespace calque::eval
