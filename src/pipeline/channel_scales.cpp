#include "pipeline/channel_scales.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>

#include "calque/core/error.h"
#include "calque/core/stopwatch.h"
#include "calque/quant/awq.h"

namespace calque::pipeline {
namespace {

using Absorber = model::FoldSpec::Absorber;

bool all_ones(const std::vector<float>& scales_K) {
  return std::all_of(scales_K.begin(), scales_K.end(), [](float s) { return s == 1.0f; });
}

std::vector<quant::ChannelReader> readers_of(const Pass& pass, const model::FoldSpec& fold,
                                             const model::BlockWeights& weights) {
  std::vector<quant::ChannelReader> readers;
  for (const model::TensorSpec& consumer : fold.consumers)
    if (const auto& grid = pass.plan.at(consumer.name).grid)
      readers.push_back({weights.at(consumer.name), *grid});
  return readers;
}

std::vector<std::string> names_of(const Pass& pass, const model::FoldSpec& fold) {
  std::vector<std::string> names;
  for (const model::TensorSpec& consumer : fold.consumers)
    if (pass.plan.at(consumer.name).grid) names.push_back(consumer.name);
  return names;
}

// Rows and columns of llama.cpp's block types cannot be rescaled: their scales are codes
// themselves.
bool touches_blocks(const Pass& pass, const model::FoldSpec& fold) {
  const auto has_block = [&](const model::TensorSpec& tensor) {
    const auto& grid = pass.plan.at(tensor.name).grid;
    return grid && grid->block;
  };
  return has_block(fold.absorber) ||
         std::any_of(fold.consumers.begin(), fold.consumers.end(), has_block);
}

// Channels made by the same row or element of the absorber share the geometric mean of their
// proposals.
void tie(const model::FoldSpec& fold, std::span<float> scales_K) {
  if (fold.shared_by == 1) return;
  std::map<Index, std::pair<double, Index>> logs;
  for (std::size_t k = 0; k < scales_K.size(); ++k) {
    auto& [sum, count] = logs[fold.source_of(static_cast<Index>(k))];
    sum += std::log(static_cast<double>(scales_K[k]));
    ++count;
  }
  for (std::size_t k = 0; k < scales_K.size(); ++k) {
    const auto& [sum, count] = logs.at(fold.source_of(static_cast<Index>(k)));
    scales_K[k] = static_cast<float>(std::exp(sum / static_cast<double>(count)));
  }
}

void to_powers_of_two(std::span<float> scales_K) {
  for (float& scale : scales_K) scale = quant::nearest_power_of_two(scale);
}

// A norm whose consumers are all rounded takes any scale that its stored weight can compensate
// exactly. Everything else takes powers of two, which change no mantissa: they pass through rows
// that are already rounded, biases, routers and unquantized linears.
quant::ScaleSnap snap_for(const Pass& pass, const model::FoldSpec& fold,
                          const model::BlockWeights& weights, bool all_rounded) {
  if (fold.kind == Absorber::kRows || !all_rounded)
    return [&fold](std::span<float> scales_K) {
      tie(fold, scales_K);
      to_powers_of_two(scales_K);
    };
  const DType dtype = pass.weights().at(fold.absorber.name).dtype;
  const bool plus_one = fold.kind == Absorber::kNormPlusOne;
  const float* norm = weights.at(fold.absorber.name).data();
  return [=, &fold](std::span<float> scales_K) {
    tie(fold, scales_K);
    for (std::size_t k = 0; k < scales_K.size(); ++k)
      scales_K[k] = quant::exact_norm_scale(norm[fold.source_of(static_cast<Index>(k))], plus_one,
                                            dtype, scales_K[k]);
  };
}

// Channels that come from one row have one scale, and keep it.
void keep_in_range(const model::FoldSpec& fold, const quant::QuantizedMatrix& absorber,
                   std::span<float> scales_K) {
  if (scales_K.empty()) return;
  std::vector<float> divisors_N = divisors_of_rows(fold, scales_K, absorber.out_features());
  quant::keep_in_range(absorber, divisors_N);
  for (std::size_t k = 0; k < scales_K.size(); ++k)
    scales_K[k] = divisors_N[static_cast<std::size_t>(fold.source_of(static_cast<Index>(k)))];
}

double squared_distance(const Matrix<float>& a, const Matrix<float>& b) {
  double total = 0;
  for (Index i = 0; i < a.size(); ++i) {
    const double difference = static_cast<double>(a.data()[i]) - b.data()[i];
    total += difference * difference;
  }
  return total;
}

}  // namespace

std::vector<float> divisors_of_rows(const model::FoldSpec& fold, std::span<const float> scales_K,
                                    Index rows) {
  std::vector<float> divisors_N(static_cast<std::size_t>(rows), 1.0f);
  for (std::size_t k = 0; k < scales_K.size(); ++k)
    divisors_N[static_cast<std::size_t>(fold.source_of(static_cast<Index>(k)))] = scales_K[k];
  return divisors_N;
}

struct ChannelScales::Search {
  const model::BlockSpec& block;
  const model::FoldSpec& fold;
  const quant::InputStats& stats;
  model::BlockWeights& weights;
  const forward::HiddenStates* hidden;
};

namespace {

// The paper's loss: the change of the attention's or MLP's output between trial weights and
// original weights, over the first sequences.
class OutputLoss {
 public:
  OutputLoss(const Pass& pass, const model::BlockSpec& block, const model::FoldSpec& fold,
             model::BlockWeights& weights, const forward::HiddenStates& hidden)
      : pass_(pass),
        block_(block),
        weights_(weights),
        hidden_(hidden),
        half_(block.half_of(fold)),
        names_(names_of(pass, fold)) {
    for (Index s = 0; s < std::min(quant::kOutputSequences, hidden.sequences()); ++s)
      originals_.push_back(output(s));
  }

  double operator()(const quant::TrialWeights& trial) {
    std::vector<Matrix<float>> kept;
    for (std::size_t r = 0; r < names_.size(); ++r) {
      Matrix<float> trial_NK = trial(r);
      kept.push_back(weights_.take(names_[r]));
      weights_.put(names_[r], std::move(trial_NK));
    }
    double loss = 0;
    for (std::size_t s = 0; s < originals_.size(); ++s)
      loss += squared_distance(output(static_cast<Index>(s)), originals_[s]);
    for (std::size_t r = 0; r < names_.size(); ++r) weights_.put(names_[r], std::move(kept[r]));
    return loss;
  }

 private:
  Matrix<float> output(Index sequence) const {
    return pass_.runner->half_output(block_, weights_, hidden_, half_, sequence);
  }

  const Pass& pass_;
  const model::BlockSpec& block_;
  model::BlockWeights& weights_;
  const forward::HiddenStates& hidden_;
  std::size_t half_;
  std::vector<std::string> names_;
  std::vector<Matrix<float>> originals_;
};

}  // namespace

std::span<const float> ChannelScales::choose(
    const model::BlockSpec& block, const model::SiteSpec& site, const quant::InputStats& stats,
    model::BlockWeights& weights, const forward::HiddenStates* hidden, const HeldMatrices& held) {
  if (!pass_.job().quantization.transform->rescales_channels()) return {};
  const model::FoldSpec* fold = block.fold_of(site);
  if (fold == nullptr) return {};
  if (block_ != &block) scales_.clear();
  block_ = &block;
  const auto known = scales_.find(fold);
  if (known != scales_.end()) return known->second;
  // All sites of a fold agree: one that is never reached cannot leave the choice to a later one.
  if (stats.empty()) return scales_[fold] = {};
  const TimedScope timed(pass_.run.stages.transform);
  std::vector<float> scales_K = search({block, *fold, stats, weights, hidden});
  if (const auto absorber = held.find(fold->absorber.name); absorber != held.end())
    keep_in_range(*fold, absorber->second, scales_K);
  return scales_[fold] = all_ones(scales_K) ? std::vector<float>() : std::move(scales_K);
}

std::vector<float> ChannelScales::search(const Search& search) {
  const job::QuantizationSettings& settings = pass_.job().quantization;
  const std::vector<quant::ChannelReader> readers = readers_of(pass_, search.fold, search.weights);
  if (readers.empty() || touches_blocks(pass_, search.fold)) return {};
  // Only norms feed a whole attention or MLP; other folds use the loss of their linears' outputs.
  quant::ScaleLoss loss;
  if (settings.measures_outputs() && search.fold.kind != Absorber::kRows &&
      search.hidden != nullptr)
    loss = [output = std::make_shared<OutputLoss>(pass_, search.block, search.fold, search.weights,
                                                  *search.hidden)](
               const quant::TrialWeights& trial) { return (*output)(trial); };
  const bool all_rounded = readers.size() == search.fold.consumers.size();
  std::vector<float> scales_K = settings.transform->choose_scales(
      readers, search.stats, {settings.awq, settings.smoothquant},
      snap_for(pass_, search.fold, search.weights, all_rounded), loss, pass_.execs().transform);
  return all_ones(scales_K) ? std::vector<float>{} : std::move(scales_K);
}

bool ChannelScales::is_absorber(const model::BlockSpec& block, const std::string& tensor) {
  return std::any_of(block.folds.begin(), block.folds.end(), [&](const model::FoldSpec& fold) {
    return fold.kind == Absorber::kRows && fold.absorber.name == tensor;
  });
}

}  // namespace calque::pipeline
