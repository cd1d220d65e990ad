#include "calque/eval/evaluate.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <numeric>
#include <utility>

#include "calque/core/error.h"
#include "calque/core/parallel.h"
#include "calque/eval/metrics.h"
#include "calque/model/family.h"
#include "calque/model/token_rows.h"

namespace calque::eval {
namespace {

// Elements of a logits buffer: enough rows for an efficient product, small beside a block's
// weights.
constexpr Index kLogitsElements = Index{1} << 20;

// One model on its way through the blocks.
struct Lane {
  const EvalModel* model = nullptr;
  model::FamilySpec family;
  std::unique_ptr<model::BlockRunner> runner;
  std::unique_ptr<model::HiddenStates> hidden;
  std::shared_ptr<model::Head> head;
  std::vector<Prediction> predictions;  // rows * (seqlen - 1), in order

  void start(const EvalModel& source, const text::TokenBlocks& rows,
             const model::RunnerOptions& options) {
    model = &source;
    family = model::family_of(*source.config);
    runner = model::make_block_runner(*source.config, options);
    hidden = model::embed_tokens(*runner, *source.weights, family.embedding, rows.ids_BS,
                                 rows.lengths_B);
  }

  void run_block(std::size_t layer) {
    const model::BlockSpec& block = family.blocks[layer];
    model::BlockWeights weights = model::load_block(*model->weights, block);
    runner->run_block(block, weights, *hidden, nullptr);
  }

  void make_head() {
    head = runner->make_head(model->weights->load(family.final_norm.name),
                             model->weights->load(family.head().name));
  }

  void free() {
    head.reset();
    hidden.reset();
  }
};

// Bit by bit; a few rows at a time.
bool same_values(const Lane& a, const model::TensorSpec& tensor_of_a, const Lane& b,
                 const model::TensorSpec& tensor_of_b) {
  constexpr Index kRows = 4096;
  if (tensor_of_a.shape != tensor_of_b.shape) return false;
  const Index rows = tensor_of_a.shape.size() < 2 ? 1 : tensor_of_a.shape[0];
  for (Index first = 0; first < rows; first += kRows) {
    std::vector<Index> some(static_cast<std::size_t>(std::min(kRows, rows - first)));
    std::iota(some.begin(), some.end(), first);
    const Matrix<float> of_a = a.model->weights->load_rows(tensor_of_a.name, some);
    const Matrix<float> of_b = b.model->weights->load_rows(tensor_of_b.name, some);
    const auto bytes = static_cast<std::size_t>(of_a.size()) * sizeof(float);
    if (of_a.size() != of_b.size() || std::memcmp(of_a.data(), of_b.data(), bytes) != 0)
      return false;
  }
  return true;
}

bool same_head(const Lane& a, const Lane& b) {
  const model::ModelConfig& of_a = *a.model->config;
  const model::ModelConfig& of_b = *b.model->config;
  return of_a.norm_plus_one == of_b.norm_plus_one && of_a.rms_norm_eps == of_b.rms_norm_eps &&
         of_a.logit_softcap == of_b.logit_softcap &&
         same_values(a, a.family.final_norm, b, b.family.final_norm) &&
         same_values(a, a.family.head(), b, b.family.head());
}

// Candidates that are scored together, so that no more than two heads are in memory: the
// reference's, which serves all whose head was left as it is, and one other.
std::vector<std::vector<Lane*>> scoring_rounds(std::vector<Lane>& lanes) {
  std::vector<std::vector<Lane*>> rounds(1);
  bool holds_another = false;
  for (std::size_t i = 1; i < lanes.size(); ++i) {
    if (same_head(lanes.front(), lanes[i])) {
      lanes[i].head = lanes.front().head;
      rounds.front().push_back(&lanes[i]);
      continue;
    }
    if (std::exchange(holds_another, true)) rounds.emplace_back();
    rounds.back().push_back(&lanes[i]);
  }
  return rounds;
}

void check_vocabularies(const EvalModel& reference, const std::vector<EvalModel>& candidates) {
  for (const EvalModel& candidate : candidates) {
    if (candidate.config->vocab_size == reference.config->vocab_size) continue;
    throw Error(
        ErrorKind::kConfig, "E231",
        fmt::format("cannot compare '{}' (vocabulary {}) with '{}' (vocabulary {}): KL "
                    "divergence needs the same tokens. Give the model that the artifact was "
                    "made from as the reference.",
                    candidate.label, candidate.config->vocab_size, reference.label,
                    reference.config->vocab_size));
  }
}

void check_windows(const EvalModel& reference, const text::TokenBlocks& windows) {
  if (windows.rows() == 0 || windows.seqlen() < 2)
    throw Error(ErrorKind::kConfig, "E232",
                fmt::format("evaluation needs at least one window of 2 tokens, got {} of {}",
                            windows.rows(), windows.seqlen()));
  const Index vocab_size = reference.config->vocab_size;
  for (Index b = 0; b < windows.rows(); ++b)
    for (Index s = 0; s < windows.lengths_B[static_cast<std::size_t>(b)]; ++s)
      if (windows.ids_BS(b, s) < 0 || windows.ids_BS(b, s) >= vocab_size)
        throw Error(ErrorKind::kInput, "E233",
                    fmt::format("token id {} in evaluation window {} is outside the vocabulary of "
                                "'{}' ({} tokens); was the text tokenized for another model?",
                                windows.ids_BS(b, s), b, reference.label, vocab_size));
}

// The windows that are run: those asked for, then (with a BOS) the same ones beginning with it.
text::TokenBlocks rows_to_run(const text::TokenBlocks& windows, std::optional<std::int32_t> bos) {
  const Index copies = bos ? 2 : 1;
  text::TokenBlocks rows;
  rows.ids_BS = Matrix<std::int32_t>::uninitialized(copies * windows.rows(), windows.seqlen());
  for (Index r = 0; r < rows.rows(); ++r) {
    const Index window = r % windows.rows();
    std::copy_n(windows.ids_BS.row(window), windows.seqlen(), rows.ids_BS.row(r));
    rows.lengths_B.push_back(windows.lengths_B[static_cast<std::size_t>(window)]);
    if (r >= windows.rows()) rows.ids_BS(r, 0) = *bos;
  }
  return rows;
}

// Scores one row for the reference and some candidates.
class RowScorer {
 public:
  RowScorer(Lane& reference, const std::vector<Lane*>& candidates, const text::TokenBlocks& rows)
      : reference_(reference), candidates_(candidates), rows_(rows) {
    vocab_size_ = reference.model->config->vocab_size;
    chunk_ = std::clamp<Index>(kLogitsElements / vocab_size_, 1, rows.seqlen() - 1);
  }

  // Predictions made at positions `begin` and later.
  void score(Index row, Index begin) const {
    const Index predictions = rows_.lengths_B[static_cast<std::size_t>(row)] - 1;
    Matrix<float> logits_TV = Matrix<float>::uninitialized(chunk_, vocab_size_);
    std::vector<Distribution> references(static_cast<std::size_t>(chunk_), Distribution(size()));
    Distribution candidate(size());
    for (Index first = begin; first < predictions; first += chunk_) {
      const MatrixView<float> logits =
          logits_TV.view().rows(0, std::min(chunk_, predictions - first));
      reference_.head->logits(*reference_.hidden, row, first, logits);
      for (Index t = 0; t < logits.rows(); ++t) {
        Distribution& reference = references[static_cast<std::size_t>(t)];
        reference.set({logits.row(t), size()});
        record(reference_, row, first + t, reference, reference);
      }
      for (Lane* lane : candidates_) {
        lane->head->logits(*lane->hidden, row, first, logits);
        for (Index t = 0; t < logits.rows(); ++t) {
          candidate.set({logits.row(t), size()});
          record(*lane, row, first + t, references[static_cast<std::size_t>(t)], candidate);
        }
      }
    }
  }

 private:
  std::size_t size() const { return static_cast<std::size_t>(vocab_size_); }

  void record(Lane& lane, Index row, Index position, const Distribution& reference,
              const Distribution& candidate) const {
    Prediction p = compare(reference, candidate, rows_.ids_BS(row, position + 1));
    p.second_half = position >= rows_.seqlen() / 2;
    lane.predictions[static_cast<std::size_t>(row * (rows_.seqlen() - 1) + position)] = p;
  }

  Lane& reference_;
  const std::vector<Lane*>& candidates_;
  const text::TokenBlocks& rows_;
  Index vocab_size_ = 0;
  Index chunk_ = 0;
};

// The predictions of rows [first, first + count), without the slots that short rows left empty.
std::vector<Prediction> predictions_of(const Lane& lane, const text::TokenBlocks& rows, Index first,
                                       Index count) {
  std::vector<Prediction> result;
  for (Index r = first; r < first + count; ++r) {
    const auto begin = lane.predictions.begin() + r * (rows.seqlen() - 1);
    result.insert(result.end(), begin, begin + rows.lengths_B[static_cast<std::size_t>(r)] - 1);
  }
  return result;
}

ModelMetrics metrics_of(const Lane& lane, const text::TokenBlocks& rows, Index windows) {
  const std::vector<Prediction> predictions = predictions_of(lane, rows, 0, windows);
  ModelMetrics metrics;
  metrics.label = lane.model->label;
  metrics.perplexity_hf = perplexity(predictions, PerplexityRule::kHuggingFace);
  metrics.perplexity_llamacpp = perplexity(
      predictions_of(lane, rows, rows.rows() - windows, windows), PerplexityRule::kLlamaCpp);
  metrics.divergence = divergence(predictions);
  return metrics;
}

}  // namespace

std::vector<ModelMetrics> evaluate(const EvalModel& reference,
                                   const std::vector<EvalModel>& candidates,
                                   const text::TokenBlocks& windows, const EvalOptions& options) {
  check_vocabularies(reference, candidates);
  check_windows(reference, windows);
  const text::TokenBlocks rows = rows_to_run(windows, options.llamacpp_bos);
  std::vector<Lane> lanes(1 + candidates.size());
  for (std::size_t i = 0; i < lanes.size(); ++i)
    lanes[i].start(i == 0 ? reference : candidates[i - 1], rows, options.runner);

  std::size_t blocks = 0;
  for (const Lane& lane : lanes) blocks = std::max(blocks, lane.family.blocks.size());
  const auto total = static_cast<Index>((blocks + 1) * lanes.size());
  Index done = 0;
  const auto advance = [&] {
    if (options.progress) options.progress(++done, total);
  };
  for (std::size_t layer = 0; layer < blocks; ++layer)
    for (Lane& lane : lanes) {
      if (layer < lane.family.blocks.size())
        with_context(lane.model->label, [&] { lane.run_block(layer); });
      advance();
    }

  for (Lane& lane : lanes)
    lane.predictions.resize(static_cast<std::size_t>(rows.rows() * (rows.seqlen() - 1)));
  lanes.front().make_head();
  for (const std::vector<Lane*>& candidates_now : scoring_rounds(lanes)) {
    for (Lane* lane : candidates_now)
      if (!lane->head) lane->make_head();
    const RowScorer scorer(lanes.front(), candidates_now, rows);
    parallel_for(rows.rows(), options.runner.threads, [&](Index row) {
      scorer.score(row, row < windows.rows() ? 0 : rows.seqlen() / 2);
    });
    for (Lane* lane : candidates_now) lane->free();
  }

  std::vector<ModelMetrics> result;
  for (const Lane& lane : lanes) {
    result.push_back(metrics_of(lane, rows, windows.rows()));
    advance();
  }
  return result;
}

}  // namespace calque::eval
